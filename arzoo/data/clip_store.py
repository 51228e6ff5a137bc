"""Clips on disk, mapped into memory: a set may be larger than the memory, and all processes share one copy.

clips.bin    (n, T, H, W, 3) uint8, nothing else
index.json   shape, size and hash of that file, and the facts about the clips; sealed, and written last
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arzoo.base import files
from arzoo.base.files import SEAL, seal
from arzoo.base.lock import alone

CLIPS, INDEX = "clips.bin", "index.json"
ROOM = "Make room, or name another folder with ARZOO_CACHE."
"""What to do when the disk is full."""


def write_clips(folder: Path, shape: tuple[int, ...], batches: Iterable[np.ndarray], **facts: Any) -> None:
    """Write clips, one batch after another, in place of those that the folder holds.

    Args:
        folder: Folder of the clips.
        shape: (T, H, W, 3) of a clip.
        batches: Arrays (B, T, H, W, 3) uint8.
        **facts: Facts about the clips that JSON can hold; an iterator of batches may complete them while it runs.

    Raises:
        ArzooError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial, digest, count = folder / f".{CLIPS}.partial", hashlib.sha256(), 0
    with files.explain_full_disk("clips", folder, ROOM):
        try:
            with partial.open("wb") as file:
                for batch in batches:
                    assert batch.shape[1:] == shape
                    assert batch.dtype == np.uint8
                    content = np.ascontiguousarray(batch).data
                    digest.update(content)
                    file.write(content)
                    count += len(batch)
            files.sync(partial)
            (folder / INDEX).unlink(missing_ok=True)  # it describes the former clips
            os.replace(partial, folder / CLIPS)
        finally:
            partial.unlink(missing_ok=True)
        index = {"shape": [count, *shape], "sha256": digest.hexdigest(), **facts}
        files.write_text(folder / INDEX, json.dumps(index | {SEAL: seal(index)}))


def read_clips(folder: Path) -> tuple[Tensor, dict[str, Any]] | None:
    """Map the clips (n, T, H, W, 3) uint8 of a folder into memory, where they cannot be changed, and read their facts.

    Returns:
        The clips and all entries of the index; None if there are no clips, or not those that were written.
    """
    path = folder / CLIPS
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        whole = index[SEAL] == seal(index) and path.stat().st_size == math.prod(index["shape"]) > 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    pixels = np.memmap(path, np.uint8, "r", shape=tuple(index["shape"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels), index


def kept_clips(
    folder: Path, fits: Callable[[dict[str, Any]], bool], write: Callable[[], None]
) -> tuple[Tensor, dict[str, Any]] | None:
    """Return the clips of a folder, see `read_clips`, after writing them if there are none that fit.

    Args:
        folder: Folder of the clips.
        fits: Returns whether the clips of an index are the right ones.
        write: Writes them; one process writes, others wait.
    """
    stored = read_clips(folder)
    if stored is None or not fits(stored[1]):
        with alone(folder, "writes clips into", wait=True):
            stored = read_clips(folder)  # another process may have written them meanwhile
            if stored is None or not fits(stored[1]):
                write()
                stored = read_clips(folder)
    return stored
