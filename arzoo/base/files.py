"""Files and folders that are whole or not there, survive a crash, and say when they were changed. Imports no torch."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.console import human_bytes
from arzoo.base.errors import ArzooError
from arzoo.base.paths import expanded

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "run.json"
"""File in which every output folder says how it was made."""
SEAL = "seal"
MAX_JSON = 1 << 26
"""Bytes of the largest JSON file that is read."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room, quota used up, file larger than this process may write."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux: paths are those of the process, and both names stay, each with the content of the other."""
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV}
"""What a kernel or a file system says that does not exchange names."""


def refuse_full(folder: Path, overwrite: bool) -> None:
    """Raise an ArzooError when a folder holds something and may not be overwritten."""
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise _full(folder)


def _full(folder: Path) -> ArzooError:
    return ArzooError(f"{folder} exists and is not empty. Choose another folder or allow overwriting.")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise an ArzooError when a file exists and may not be replaced, or is a folder."""
    if path.is_dir():
        raise ArzooError(f"{path} is a folder, a file is needed. Give another name.")
    if path.exists() and not overwrite:
        raise ArzooError(f"{path} exists. Give another name, or allow it with --overwrite.")


@contextmanager
def atomic_file(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """A file that appears complete or not at all: write to the yielded path, it is moved into place at the end.

    Raises:
        ArzooError: The file exists and `overwrite` is off, also if another process wrote it meanwhile.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())  # mkstemp makes it private
        sync(partial)
        if overwrite:
            os.replace(partial, path)
        else:
            _give_new_name(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _give_new_name(partial: Path, path: Path) -> None:
    """Give a finished file a name that none may have, so that of two processes one goes on."""
    try:
        os.link(partial, path)
    except FileExistsError:
        refuse_existing(path, overwrite=False)
    except OSError:  # a file system without second names
        refuse_existing(path, overwrite=False)
        os.replace(partial, path)


@contextmanager
def atomic_folder(folder: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears complete or not at all: work in the yielded one, it is moved into place at the end.

    Raises:
        ArzooError: The folder exists, is not empty, and `overwrite` is off, or another process was faster.
    """
    folder = Path(expanded(folder))
    refuse_full(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        yield partial
        for path in (*partial.rglob("*"), partial):
            sync(path)
        if overwrite:
            _replace(partial, folder)
        else:
            _give_name(partial, folder)
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


def _give_name(partial: Path, folder: Path) -> None:
    """Give a finished folder its name, which at most an empty folder may have."""
    try:
        if os.name == "nt" and folder.exists():
            folder.rmdir()  # there a folder takes no name that is in use
        os.rename(partial, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _full(folder) from error
        raise


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


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Replace a safetensors file in one go and wait for the disk.

    Whoever has the old file mapped into memory keeps it: written over in place, its tensors would change under them.
    """
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
        sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one go: readers see the old text or the new one, never a part."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def move_folder(partial: Path, target: Path) -> None:
    """Give a finished folder its name, when everything in it is on disk."""
    sync(partial)
    os.replace(partial, target)
    sync(target.parent)


@contextmanager
def explain_full_disk(what: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turn a write that failed for want of room into a message that says what to do.

    Args:
        what: What was being written.
        folder: Where.
        remedy: What is safe, and how to go on.

    Raises:
        ArzooError: There was no room.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        free = human_bytes(shutil.disk_usage(folder).free if folder.exists() else 0)
        raise ArzooError(f"no room to write {what} in {folder} ({free} free). {remedy}") from error


def _is_full(error: Exception) -> bool:
    """safetensors reports errors of the disk as text of its own."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(os.strerror(number) in str(error) or f"os error {number}" in str(error) for number in _FULL)


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seal(index: Mapping[str, Any]) -> str:
    """The sha256 of everything an index, or a table of figures, says beside its own seal."""
    said = {key: value for key, value in index.items() if key != SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def damaged(path: str | Path, why: object) -> ArzooError:
    """The error that says that a file of a checkpoint is not what was written."""
    return ArzooError(f"{path} is damaged: {why}. Copy or download the checkpoint again.")


def read_json(path: Path) -> Any:
    """The content of a JSON file of a checkpoint.

    Raises:
        ArzooError: It is missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ArzooError(
                f"{path} has more than {human_bytes(MAX_JSON)}; no file of settings is that large"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArzooError(
            f"cannot read {path}: {error.strerror}. Copy the whole checkpoint folder again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not valid JSON ({error})") from error
