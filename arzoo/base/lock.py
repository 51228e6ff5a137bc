"""A lock on a folder: a second process would remove or mix up what the first one is writing.

The operating system holds the lock and releases it when the process ends in any way, so a killed run can be continued
at once; the lock file that it leaves has no meaning. Processes that prepare data do not hold it.
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
"""Seconds to wait, as another process may hold the lock only to check whether the folder is in use."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
"""Errors of a file system without locks."""
_held: set[tuple[int, Path]] = set()
"""Process and folder of held locks: a command holds the lock of a folder and then starts a training, which takes it
again."""


@contextmanager
def alone(folder: Path, doing: str = "trains in", wait: bool = False) -> Iterator[None]:
    """Keep other processes from working in a folder, which is created if it does not exist.

    Args:
        folder: Folder of the run, of codes, or of any other output.
        doing: What the other process does there, for the message.
        wait: Print a note and wait until the other process is done, instead of raising.

    Raises:
        ArzooError: Another process works there and `wait` is False.
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
    """Refuse a folder in which another process works, as `alone` does, without writing anything.

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
    """Release a lock. Its file is removed first, so that a waiting process creates a new one."""
    with contextlib.suppress(OSError):  # Windows removes no open file
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
        note(f"the file system of {folder} has no locks: make sure that no other process works there")
