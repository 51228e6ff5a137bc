"""Terminal output: notes, tables, progress, sizes and durations.

A closed terminal or a closed pipe must not end the work (`Lossy`). Progress is written to standard error: as a bar on a
terminal, as an occasional line elsewhere. Imports no torch.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS, FIRST_SECONDS = 10.0, 1.5
"""Where progress is no bar: from one line to the next, and until the first."""


def note(text: str) -> None:
    """Print a message that is not part of the result to standard error."""
    print(text, file=sys.stderr, flush=True)


_LEAST = 12
"""Columns are not shortened below this width."""
_wide = False


def show_wide(wide: bool) -> None:
    """Say whether tables may be wider than the terminal."""
    global _wide
    _wide = wide


def is_wide() -> bool:
    """Return whether tables may be wider than the terminal."""
    return _wide


def table_width() -> int:
    """Return the largest width of a table: that of the terminal, or 0 for any, as in files and pipes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() and not _wide else 0


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = (), width: int | None = None) -> str:
    """Format rows as lines with aligned columns; double-width characters count as two.

    Args:
        rows: Rows of cells.
        head: Titles of the columns.
        width: Largest width, 0 for any; by default `table_width()`. The widest columns but the first are shortened. A
            table of too many columns for that goes on below, with its first column again.
    """
    from rich.cells import cell_len

    texts = [[str(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    if not texts:
        return "nothing"
    widths = [max(cell_len(row[i]) for row in texts) for i in range(len(texts[0]))]
    most = table_width() if width is None else width
    return "\n\n".join(
        _aligned(
            [[row[i] for i in part] for row in texts], _fitted([widths[i] for i in part], most), bool(head)
        )
        for part in _parts(widths, most)
    )


def _parts(widths: list[int], most: int) -> list[list[int]]:
    """Return the columns of each part of a table of at most `most` columns of text: one part, if `_LEAST` allows."""
    whole = [*range(len(widths))]
    if not most or _total(widths[:1] + [min(width, _LEAST) for width in widths[1:]]) <= most:
        return [whole]
    parts = [[0]]
    for i in whole[1:]:
        if len(parts[-1]) > 1 and _total([widths[k] for k in (*parts[-1], i)]) > most:
            parts.append([0])
        parts[-1].append(i)
    return parts


def _total(widths: Sequence[int]) -> int:
    """Return the width of columns with the gaps between them."""
    return sum(widths) + 2 * (len(widths) - 1)


def _aligned(texts: list[list[str]], widths: list[int], headed: bool) -> str:
    """Format cells as lines; what is longer than its column is shortened."""
    from rich.cells import cell_len, set_cell_size

    texts = [
        [c if cell_len(c) <= w else set_cell_size(c, w - 1) + "…" for c, w in zip(row, widths, strict=True)]
        for row in texts
    ]
    lines = [
        "  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]
    if headed:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _fitted(widths: list[int], most: int) -> list[int]:
    """Return widths of columns that fit a table of at most `most` columns, as far as `_LEAST` allows."""
    while most and _total(widths) > most:
        widest = max(range(1, len(widths)), key=lambda i: widths[i], default=0)
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    return widths


def human_bytes(number: float) -> str:
    """Format a number of bytes with a unit of a power of 1000, such as "1.5 MB"."""
    from rich.filesize import decimal

    return decimal(int(number))


def human_seconds(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (done, total).

    Args:
        what: Name of the work.
        unit: Name of the pieces that are counted, in the plural.
    """
    if not sys.stderr.isatty():
        yield _plain(what, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(what: str, unit: str) -> Callable[[int, int], None]:
    """Print a line after `FIRST_SECONDS`, then one every `PLAIN_SECONDS`: pieces done, rate and remaining time."""
    started = time.monotonic()
    due = started + FIRST_SECONDS

    def report(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due or not done:
            return
        due, rate = now + PLAIN_SECONDS, done / (now - started)
        left = human_seconds((total - done) / rate)
        print(
            f"{what}: {done} of {total} {unit}, {rate:.3g} a second, about {left} left",
            file=sys.stderr,
            flush=True,
        )

    return report


class Lossy:
    """A text stream on which writing never fails; after the first failure, text is discarded.

    Args:
        stream: The stream to write to; with None, Python's value for a stream that was closed before the process
            started, text is discarded.

    Attributes:
        failure: The first error; None if there was none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w", encoding="utf-8")
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, or discard it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard what was not written yet."""
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard(self, error: OSError) -> None:
        """Redirect the descriptor itself: libraries write to it too, and Python flushes to it at exit."""
        self.failure = error.with_traceback(None)  # a traceback would keep the frames of the caller alive
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except OSError:
            pass  # a stream without a descriptor


def lossy(console: Console) -> Console:
    """Make printing on a console never fail, and return the console."""
    if not isinstance(console.file, Lossy):
        console.file = Lossy(console.file)  # type: ignore[assignment,arg-type]
    return console
