"""Image folders: one sub-folder per class, or all pictures in one folder, with optional captions.

Files that are left out or cannot be read are counted and reported.

Shapes: n pictures, P pixels of all of them.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from arzoo.base.errors import ArzooError
from arzoo.base.memory import refuse_too_large
from arzoo.core.sizes import Sizes
from arzoo.data.any_size import AnySizeSet
from arzoo.data.base import ImageSet
from arzoo.data.captions import captions_of
from arzoo.data.folder_sizes import cropping
from arzoo.data.picture_files import Head, Listing, head, list_pictures, remarks_on
from arzoo.data.reading import SUFFIXES, read_resized, read_sized

HELD_OUT = 20
"""One of this many pictures is held out for validation."""


def image_folder(folder: Path, size: int | Sizes) -> ImageSet:
    """Read a folder of pictures.

    Classes are the sub-folders in alphabetical order; pictures directly in the folder form one class.
    `arzoo.data.picture_files` decides which files are read, `arzoo.data.captions` where captions are.

    Args:
        folder: Folder of the pictures.
        size: Side in pixels to which they are resized and cropped; or the sizes that are allowed, to which each picture
            is resized in about its own shape (an `AnySizeSet`).

    Raises:
        ArzooError: The folder has no readable picture, the captions cannot be read, the size is not positive, or the
            pictures do not fit into memory.
    """
    if isinstance(size, int) and size < 1:
        raise ArzooError(f"pictures of side {size} do not exist; give a size of at least 1, such as 64")
    listing = list_pictures(folder)
    targets, skipped = _targets(listing, size)
    total = sum(height * width for height, width in targets.values())
    each = f"of {size} x {size}" if isinstance(size, int) else "of about their own shapes"
    refuse_too_large(
        total * 3,
        f"{folder}: {len(targets)} pictures {each}",
        "Take a folder with fewer of them, or smaller ones.",
    )
    images, kept, heads, damaged = _read(
        listing, targets, read_sized if isinstance(size, int) else read_resized
    )
    skipped += damaged
    if not kept:
        count = len(listing.files)
        content = f"{count} picture files, none readable ({skipped[0]})" if count else "no picture files"
        more = "".join(f" Besides, {remark}." for remark in listing.remarks)
        raise ArzooError(
            f"{folder} has {content}. Put pictures ({', '.join(sorted(SUFFIXES))}) there, one sub-folder per class."
            f"{more}"
        )
    captions, caption_remarks = captions_of(folder, kept)
    names = listing.classes(kept)
    classes = tuple(sorted(set(names)))
    remarks = [
        *listing.remarks,
        *_of_skipped(listing, skipped, classes),
        *remarks_on(folder, heads),
        *caption_remarks,
    ]
    for remark in remarks:
        warnings.warn(remark, stacklevel=3)
    sides = [side for picture in heads for side in picture.size]
    labels = {name: label for label, name in enumerate(classes)}
    places = tuple(path.relative_to(folder).as_posix() for path in kept)
    shared: dict[str, Any] = {
        "name": listing.name,
        "labels": torch.tensor([labels[name] for name in names]),
        "classes": classes,
        "held_out": _held_out([str(path.relative_to(folder)) for path in kept]),
        "captions": captions,
        "report": (*remarks, *skipped[1:]),
        "sides": (min(sides), max(sides)),
        "files": places,
    }
    if isinstance(size, Sizes):
        return AnySizeSet(images=images, sizes=torch.tensor([targets[path] for path in kept]), **shared)
    cropped = cropping(places, [picture.size for picture in heads])
    return ImageSet(images=images.view(-1, size, size, 3), cropping=cropped, **shared)


def _targets(listing: Listing, size: int | Sizes) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Size (H, W) in which each picture is read, and the errors of pictures that have no allowed one."""
    if isinstance(size, int):
        return dict.fromkeys(listing.files, (size, size)), []
    targets, skipped = dict[Path, tuple[int, int]](), list[str]()
    for path in listing.files:
        try:
            targets[path] = size.fitted(*head(path).size)
        except ArzooError as error:
            skipped.append(f"{path.relative_to(listing.folder)}: {error}")
    return targets, skipped


def _read(
    listing: Listing,
    targets: Mapping[Path, tuple[int, int]],
    read: Callable[[Path, int, int], np.ndarray],
) -> tuple[torch.Tensor, list[Path], list[Head], list[str]]:
    """Pixels (P, 3) uint8, files and headers of the readable pictures, and the errors of the others."""
    images = np.empty((sum(height * width for height, width in targets.values()), 3), dtype=np.uint8)
    filled = 0
    kept: list[Path] = []
    heads: list[Head] = []
    skipped: list[str] = []
    console, quiet = Console(stderr=True), not sys.stderr.isatty()
    for path in track(targets, f"reading {listing.folder.name}", console=console, disable=quiet):
        try:
            pixels = read(path, *targets[path]).reshape(-1, 3)
            images[filled : filled + len(pixels)] = pixels
            heads.append(head(path))
            kept.append(path)
            filled += len(pixels)
        except (OSError, ValueError) as error:
            skipped.append(f"{path.relative_to(listing.folder)}: {error}")
    return torch.from_numpy(images[:filled]), kept, heads, skipped


def _of_skipped(listing: Listing, skipped: list[str], classes: tuple[str, ...]) -> list[str]:
    """Remarks on pictures that cannot be read, and on classes without a readable picture."""
    if not skipped:
        return []
    empty = sorted(set(listing.classes(listing.files)) - set(classes))
    remark = (
        f"{listing.folder}: skipped {len(skipped)} of {len(listing.files)} pictures, the first: {skipped[0]}"
    )
    return [remark, *([f"no picture is read in {', '.join(empty)}: they make no class"] if empty else [])]


def _held_out(names: list[str]) -> torch.Tensor:
    """Choose the pictures with the lowest hashes of their names; at least one if there are two pictures."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).hexdigest())
    count = max(len(names) // HELD_OUT, 1) if len(names) > 1 else 0
    held = torch.zeros(len(names), dtype=torch.bool)
    held[order[:count]] = True
    return held
