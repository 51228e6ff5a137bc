"""One process works in a folder: a second one would remove or mix up what the first is writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from arzoo.base.console import note
from arzoo.base.errors import ArzooError

try:
    import fcntl
except ImportError:  # Windows; a second start is not noticed there
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"
_held: set[tuple[int, Path]] = set()
"""Process and folder: the command holds its folder around the training, which would ask for it once more."""


@contextmanager
def alone(folder: Path, doing: str = "trains in", wait: bool = False) -> Iterator[None]:
    """Keep other processes from working in a folder, which is made if absent.

    The lock is that of `lockf`: it ends with the process, however that ends, and processes forked to prepare data
    do not inherit it, so a killed run can be continued at once. Its file stays; it says nothing.

    Args:
        folder: Folder of the run, or of codes.
        doing: What the other process does there, for the message.
        wait: Wait until the other process is done, and say so, instead of refusing.

    Raises:
        ArzooError: Another process works there.
    """
    mine = os.getpid(), folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None or mine in _held:
        yield
        return
    with (folder / FILE).open("a") as file:
        _take(file, fcntl.LOCK_EX, folder, doing, wait)
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)


def refuse_busy(out: Path) -> None:
    """Refuse a folder in which another process trains, as `alone` would, without making or changing anything.

    Raises:
        ArzooError: Another process trains there.
    """
    path = out / FILE
    if fcntl is None or (os.getpid(), out.resolve()) in _held or not path.exists():
        return
    with path.open("rb") as file:
        _take(file, fcntl.LOCK_SH, out, "trains in")


def _take(file: IO[Any], kind: int, folder: Path, doing: str, wait: bool = False) -> None:
    """Lock an open file until it is closed."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        other = f"another process {doing} {folder}."
        if not wait:
            raise ArzooError(f"{other} Wait until it is done, stop it, or give another --out") from error
        note(f"{other} Waiting until it is done.")
        fcntl.lockf(file, kind)
    except OSError:
        pass  # a file system without locks
