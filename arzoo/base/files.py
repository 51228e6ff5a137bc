"""Folders that appear whole or not at all, also where one of the same name is replaced. Imports no torch."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arzoo.base.errors import ArzooError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux: paths are those of the process, and both names stay, each with the content of the other."""
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV}
"""What a kernel or a file system says that does not exchange names."""


def refuse_full(folder: Path, overwrite: bool) -> None:
    """Raise an ArzooError when a folder holds something and may not be overwritten."""
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ArzooError(f"{folder} exists and is not empty. Choose another folder or allow overwriting.")


@contextmanager
def atomic_folder(folder: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears complete or not at all: work in the yielded one, it is moved into place at the end.

    Raises:
        ArzooError: The folder exists, is not empty, and `overwrite` is off.
    """
    folder = Path(folder)
    refuse_full(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        yield partial
        for path in (*partial.rglob("*"), partial):
            sync(path)
        _replace(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if os.name == "nt":
        return  # flushes only what is open for writing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; what has the name is removed once the name means the new one."""
    if folder.exists() and _exchange(partial, folder):
        return  # the old content has the partial name now
    old = partial.with_suffix(".old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(partial, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where that cannot be done in one."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
