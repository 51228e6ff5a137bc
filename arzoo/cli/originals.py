"""Pictures of `arzoo reconstruct`: files, folders, or a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.console import note
from arzoo.base.errors import ArzooError
from arzoo.base.memory import refuse_too_large
from arzoo.cli.pictures import expand, read_picture, remarks_on
from arzoo.data import load
from arzoo.data.transforms import composite


def read(
    paths: Sequence[str], num: int, size: tuple[int, int], needs: Callable[[int], int]
) -> tuple[list[str], Tensor, list[str]]:
    """Read pictures.

    Args:
        paths: Picture files and folders, or one data set, of which the validation split is read.
        num: Largest number of pictures.
        size: (H, W) of the pictures.
        needs: Bytes of memory that a number of pictures and what is made of them take.

    Returns:
        Names, pictures (n, H, W, 3) uint8, and remarks; those on files are printed.

    Raises:
        ArzooError: A named file cannot be read, no file of the folders can be read, or the pictures do not fit into
            memory.
    """
    first = paths[0]
    if len(paths) > 1 or (Path(first).exists() and first not in registry.names("dataset")):
        return read_files(paths, num, size, needs)
    if Path(first).suffix:
        raise ArzooError(f"there is no file {first}")
    data = load(first, size[0]).split("validation")
    rows = torch.linspace(0, len(data) - 1, min(num, len(data))).long()
    names = [f"{first} {data.classes[int(data.labels[row])].replace('/', '-')} {int(row)}" for row in rows]
    return names, composite(data.pixels(rows)), list(data.report)


def read_files(
    paths: Sequence[str], num: int, size: tuple[int, int], needs: Callable[[int], int]
) -> tuple[list[str], Tensor, list[str]]:
    """Read files and folders like `read`; damaged files of folders are skipped with a remark."""
    names, pictures, skipped = [], [], []
    files, remarks = expand(paths)
    count = min(num, len(files))
    what = f"{count} pictures of {size[0]} x {size[1]}, original and rebuilt,"
    refuse_too_large(needs(count), what, "Give a smaller --num.")
    for file in files:
        try:
            pictures.append(read_picture(file, *size))
            names.append(file)
        except ArzooError as error:
            if file in paths:
                raise
            skipped.append(str(error))
        if len(pictures) == num:
            break
    if not pictures:
        raise ArzooError(f"none of {len(skipped)} pictures can be read, the first: {skipped[0]}")
    if skipped:
        remarks.append(f"skipped {len(skipped)} damaged pictures, the first: {skipped[0]}")
    remarks += remarks_on(names, ", ".join(paths))
    for remark in remarks:
        note(f"warning: {remark}")
    return names, torch.stack(pictures), remarks
