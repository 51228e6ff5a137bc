"""What a terminal shows: notes, tables, progress, sizes and durations.

A closed terminal, or a pipe whose reader went away, must not end the work (`Lossy`). Progress goes to standard error: a
bar on a terminal, a line now and then elsewhere. Imports no torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 10.0


def note(text: str) -> None:
    """Tell a person something that is not part of the result."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Lines with aligned columns, also of letters that take the room of two."""
    from rich.cells import cell_len, set_cell_size

    texts = [[str(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    if not texts:
        return "nothing"
    widths = [max(cell_len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = [
        "  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]
    if head:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def human_bytes(number: float) -> str:
    """Bytes in the unit a person would choose, of powers of 1000."""
    from rich.filesize import decimal

    return decimal(int(number))


def human_seconds(seconds: float) -> str:
    """A duration in the units a person would choose."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function to call with (done, total).

    Args:
        what: What is being done.
        unit: What is counted.
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
    """A line at most every `PLAIN_SECONDS`: how far, how fast, how long still."""
    started = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_SECONDS or not done:
            return
        last, rate = now, done / (now - started)
        left = human_seconds((total - done) / rate)
        print(
            f"{what}: {done} of {total} {unit}, {rate:.3g} a second, about {left} left",
            file=sys.stderr,
            flush=True,
        )

    return tell


class Lossy:
    """A text stream to which writing never fails; with the first failure it leads nowhere.

    Args:
        stream: Where the text goes; None, which Python makes of a stream that was closed before it started, is nowhere.

    Attributes:
        failure: What went wrong, None as long as nothing did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w", encoding="utf-8")
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lead_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was not written yet."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lead_nowhere(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lead_nowhere(self, error: OSError) -> None:
        """Change the descriptor itself, which libraries write to as well, and Python flushes to when it ends."""
        self.failure = error.with_traceback(None)  # which keeps alive whatever was printing
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except OSError:
            pass  # a stream without a descriptor


def lossy(console: Console) -> Console:
    """The same console, on which printing never fails from now on."""
    if not isinstance(console.file, Lossy):
        console.file = Lossy(console.file)  # type: ignore[assignment,arg-type]
    return console
