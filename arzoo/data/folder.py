"""Image folders: one sub-folder per class, or all pictures in one folder, with optional captions.

Files that are left out or cannot be read are counted and reported.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from arzoo.base.errors import ArzooError
from arzoo.base.memory import refuse_too_large
from arzoo.data.base import ImageSet
from arzoo.data.captions import captions_of
from arzoo.data.folder_sizes import cropping
from arzoo.data.picture_files import Head, Listing, head, list_pictures, remarks_on
from arzoo.data.reading import SUFFIXES, read_sized

HELD_OUT = 20
"""One of this many pictures is held out for validation."""


def image_folder(folder: Path, size: int) -> ImageSet:
    """Read a folder of pictures.

    Classes are the sub-folders in alphabetical order; pictures directly in the folder form one class.
    `arzoo.data.picture_files` decides which files are read, `arzoo.data.captions` where captions are.

    Args:
        folder: Folder of the pictures.
        size: Side in pixels to which they are resized and cropped.

    Raises:
        ArzooError: The folder has no readable picture, the captions cannot be read, the size is not positive, or the
            pictures do not fit into memory.
    """
    if size < 1:
        raise ArzooError(f"pictures of side {size} do not exist; give a size of at least 1, such as 64")
    listing = list_pictures(folder)
    refuse_too_large(
        len(listing.files) * size * size * 3,
        f"{folder}: {len(listing.files)} pictures of {size} x {size}",
        "Take a folder with fewer of them, or smaller ones.",
    )
    images, kept, heads, skipped = _read(listing, size)
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
    return ImageSet(
        name=listing.name,
        images=torch.from_numpy(images),
        labels=torch.tensor([labels[name] for name in names]),
        classes=classes,
        held_out=_held_out([str(path.relative_to(folder)) for path in kept]),
        captions=captions,
        report=(*remarks, *skipped[1:]),
        sides=(min(sides), max(sides)),
        cropping=cropping(places, [picture.size for picture in heads]),
        files=places,
    )


def _read(listing: Listing, size: int) -> tuple[np.ndarray, list[Path], list[Head], list[str]]:
    """Pixels (n, size, size, 3), files and headers of the readable pictures, and the errors of the others."""
    images = np.empty((len(listing.files), size, size, 3), dtype=np.uint8)
    kept: list[Path] = []
    heads: list[Head] = []
    skipped: list[str] = []
    console, quiet = Console(stderr=True), not sys.stderr.isatty()
    for path in track(listing.files, f"reading {listing.folder.name}", console=console, disable=quiet):
        try:
            images[len(kept)] = read_sized(path, size, size)
            heads.append(head(path))
            kept.append(path)
        except (OSError, ValueError) as error:
            skipped.append(f"{path.relative_to(listing.folder)}: {error}")
    return images[: len(kept)], kept, heads, skipped


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
