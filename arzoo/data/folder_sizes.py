"""Sizes of the pictures of a folder: the side that they are read in, and how much of them that leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.base.paths import expanded
from arzoo.data.picture_files import head, list_pictures

MEASURED = 1000
"""Largest number of files whose sizes are read."""
SMALL, LARGE, MANY = 48, 128, 2000
"""Pictures whose shorter sides have a median below the first are read as 32 x 32. From the second on, and if there are
so many of them, they are read as 128 x 128, which takes four times as many codes as 64 x 64."""


def own_pictures(name: str) -> Path | None:
    """Return the folder of the user's own pictures that data of this name are; None for other data."""
    from arzoo.data.clip_folder import holds_clips  # which imports this module

    folder = Path(expanded(name))
    if name in registry.names("dataset") or not folder.is_dir() or holds_clips(folder):
        return None
    return folder


def folder_sizes(folder: Path) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of picture files of a folder, and the sizes (H, W) of up to a thousand of them.

    Raises:
        ArzooError: The folder cannot be read.
    """
    files = list_pictures(folder).files
    sizes = []
    for path in files[:: -(-len(files) // MEASURED) or 1]:
        try:
            sizes.append(head(path).size)
        except ArzooError:  # reading the folder names it
            continue
    return len(files), sizes


def fitting_side(count: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Return the side that suits a number of pictures of some sizes (H, W): 32, 64 or 128."""
    shorter = median(min(size) for size in sizes) if sizes else SMALL
    if shorter < SMALL:
        return 32
    return 128 if shorter >= LARGE and count >= MANY else 64


def cropping(names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> str:
    """Say how much of pictures is lost where the middle square of each is taken; empty if all are square.

    Args:
        names: Names of the pictures.
        sizes: (H, W) of the pictures.
    """
    shares = [1 - min(size) / max(size) for size in sizes]
    worst = max(range(len(shares)), key=shares.__getitem__, default=0)
    if not shares or shares[worst] == 0:
        return ""
    return (
        f"the middle square of each is taken, which leaves out {mean(shares):.0%} of them, and at most "
        f"{shares[worst]:.0%} ({names[worst]})"
    )
