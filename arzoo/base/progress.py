"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_SECONDS = 10.0


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
    from arzoo.base.estimate import human_seconds

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
