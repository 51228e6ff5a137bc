"""Files and folders that are complete or absent, survive a crash, and reveal later changes. Imports no torch."""

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
"""File of an output folder that records how it was made."""
SEAL = "seal"
MAX_JSON = 1 << 26
"""Largest size in bytes of a JSON file that is read."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a full disk: no room, quota used up, file larger than this process may write."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Constants of Linux: paths are relative to the process's folder; the two names exchange their content."""
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV}
"""Errors of kernels and file systems that cannot exchange names."""


def refuse_full(folder: Path, overwrite: bool) -> None:
    """Raise an ArzooError if a folder is not empty and may not be overwritten."""
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise _full(folder)


def _full(folder: Path) -> ArzooError:
    return ArzooError(f"{folder} exists and is not empty. Choose another folder or allow overwriting.")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise an ArzooError if a file exists and may not be replaced, or if the path is a folder."""
    if path.is_dir():
        raise ArzooError(f"{path} is a folder, a file is needed. Give another name.")
    if path.exists() and not overwrite:
        raise ArzooError(f"{path} exists. Give another name, or allow it with --overwrite.")


@contextmanager
def atomic_file(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """Write a file completely or not at all: write to the yielded path, which is moved into place at the end.

    Raises:
        ArzooError: The file exists, or another process has written it meanwhile, and `overwrite` is False.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())  # mkstemp creates it private
        sync(partial)
        if overwrite:
            os.replace(partial, path)
        else:
            _give_new_name(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _give_new_name(partial: Path, path: Path) -> None:
    """Give a finished file a name that must be free, so that only one of two processes succeeds."""
    try:
        os.link(partial, path)
    except FileExistsError:
        refuse_existing(path, overwrite=False)
    except OSError:  # a file system without hard links
        refuse_existing(path, overwrite=False)
        os.replace(partial, path)


@contextmanager
def atomic_folder(folder: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Write a folder completely or not at all: work in the yielded folder, which is moved into place at the end.

    Raises:
        ArzooError: The folder is not empty, or another process has written it meanwhile, and `overwrite` is False.
    """
    folder = Path(expanded(folder))
    refuse_full(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp creates it private
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
    """Wait until a file, or the list of names in a folder, is on disk."""
    if os.name == "nt":
        return  # Windows flushes only files that are open for writing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(partial: Path, folder: Path) -> None:
    """Give a finished folder its name, which only an empty folder may have."""
    try:
        if os.name == "nt" and folder.exists():
            folder.rmdir()  # Windows renames to no name that is in use
        os.rename(partial, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _full(folder) from error
        raise


def _replace(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; the former folder is removed after the new one has the name."""
    if folder.exists() and _exchange(partial, folder):
        return  # the former content has the partial name now
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
    """Exchange the names of two folders atomically; return False where that is not possible."""
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
    """Replace a safetensors file atomically and wait for the disk.

    Processes that have mapped the former file into memory keep it; written in place, their tensors would change. The
    file it is written to first always has the same name, so that writing again replaces what a killed process left.
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
    """Replace a text file atomically: readers see the former text or the new one, never a part."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def move_folder(partial: Path, target: Path) -> None:
    """Give a finished folder its name after everything in it is on disk."""
    sync(partial)
    os.replace(partial, target)
    sync(target.parent)


@contextmanager
def explain_full_disk(what: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turn the failure of a write on a full disk into an error that says what to do.

    Args:
        what: What was being written.
        folder: Where it was written.
        remedy: What is safe, and how to continue.

    Raises:
        ArzooError: The disk is full.
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
    """Return whether an error reports a full disk; safetensors reports it only in the text of its error."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(os.strerror(number) in str(error) or f"os error {number}" in str(error) for number in _FULL)


def file_sha256(path: str | Path) -> str:
    """Compute the sha256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seal(index: Mapping[str, Any]) -> str:
    """Compute the sha256 of all entries of an index or a table of figures except its seal."""
    entries = {key: value for key, value in index.items() if key != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def damaged(path: str | Path, why: object) -> ArzooError:
    """Return the error for a file of a checkpoint that is not what was written."""
    return ArzooError(f"{path} is damaged: {why}. Copy or download the checkpoint again.")


def read_json(path: Path) -> Any:
    """Read a JSON file of a checkpoint.

    Raises:
        ArzooError: The file is missing, too large, or not JSON.
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
