"""Writes that survive: a file is whole on disk before anything points to it, and a full disk is explained."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from arzoo.base.files import sync
from arzoo.base.errors import ArzooError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room, quota used up, file larger than this process may write."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file and wait for the disk."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    sync(path)


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one go: readers see the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


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
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(folder).free / 2**20 if folder.exists() else 0
        raise ArzooError(f"no room to write {what} in {folder} ({free:.0f} MiB free). {remedy}") from error


def _is_full(error: OSError | SafetensorError) -> bool:
    """safetensors reports errors of the disk as text of its own."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(os.strerror(number) in str(error) or f"os error {number}" in str(error) for number in _FULL)
