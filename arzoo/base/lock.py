"""One process works in a folder: a second one would remove or mix up what the first is writing.

The lock is a file that the system holds for a process and gives back when the process ends, however that ends, so a
killed run can be continued at once; the file that it leaves says nothing. Processes that prepare data do not hold it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from arzoo.base.console import note
from arzoo.base.errors import ArzooError

FILE = ".lock"
_PATIENCE = 0.5
"""Seconds for another process that only looks whether somebody works in the folder."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
"""What a file system says that has no locks."""
_held: set[tuple[int, Path]] = set()
"""Process and folder: a command holds its folder around the training, which asks for it once more."""


@contextmanager
def alone(folder: Path, doing: str = "trains in", wait: bool = False) -> Iterator[None]:
    """Keep other processes from working in a folder, which is made if absent.

    Args:
        folder: Folder of the run, of codes, or of any other output.
        doing: What the other process does there, for the message.
        wait: Wait until the other process is done, and say so, instead of refusing.

    Raises:
        ArzooError: Another process works there.
    """
    mine = os.getpid(), folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if mine in _held:
        yield
        return
    lock = FileLock(folder / FILE)
    _take(lock, folder, doing, wait)
    _held.add(mine)
    try:
        yield
    finally:
        _held.discard(mine)
        _release(lock)


def refuse_busy(folder: Path, doing: str = "works in") -> None:
    """Refuse a folder in which another process works, as `alone` would, without making or changing anything.

    Raises:
        ArzooError: Another process works there.
    """
    path = folder / FILE
    if (os.getpid(), folder.resolve()) in _held or not path.exists() or not os.access(path, os.W_OK):
        return
    lock = FileLock(path)
    _take(lock, folder, doing)
    lock.release()


def _release(lock: FileLock) -> None:
    """Remove the file while it is held, so that a process that waits for it makes a new one, and give it back."""
    with contextlib.suppress(OSError):  # Windows removes nothing that is open
        os.unlink(lock.lock_file)
    lock.release()


def _take(lock: FileLock, folder: Path, doing: str, wait: bool = False) -> None:
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        other = f"another process {doing} {folder}."
        if not wait:
            raise ArzooError(f"{other} Wait until it is done, stop it, or give another --out") from error
        note(f"{other} Waiting until it is done.")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        note(f"the file system of {folder} has no locks: see to it that no other process works there")
