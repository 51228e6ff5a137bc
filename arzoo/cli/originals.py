"""Pictures or clips of `arzoo reconstruct`: files, folders, or a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.console import note
from arzoo.base.errors import ArzooError
from arzoo.base.memory import refuse_too_large
from arzoo.cli.pictures import expand, read_picture, read_whole, remarks_on
from arzoo.core.sizes import Sizes
from arzoo.data import load
from arzoo.data.clip_files import PICTURES, SUFFIXES, numbered, read_clip
from arzoo.data.clip_folder import list_clips
from arzoo.data.reading import resized
from arzoo.data.transforms import composite


def read(
    paths: Sequence[str],
    num: int,
    shape: tuple[int, int, int],
    needs: Callable[[int], int],
    sizes: Sizes | None = None,
) -> tuple[list[str], list[Tensor], list[str]]:
    """Read pictures, or clips for a tokenizer that takes them; damaged files of folders are skipped with a remark.

    Args:
        paths: Picture files and folders, or one data set, of which the validation split is read. Where T is above 1
            also clip files, of which the first T frames are read.
        num: Largest number of pictures or clips.
        shape: (T, H, W); T is 1 for pictures.
        needs: Bytes of memory that a number of pictures, or frames, and what is made of them take.
        sizes: Allowed sizes of pictures that keep their shapes, instead of H and W.

    Returns:
        Names, pictures (H, W, 3) or clips (T, H, W, 3) uint8, and remarks; those on files are printed.

    Raises:
        ArzooError: A named file cannot be read, no file of the folders can be read, or the pictures do not fit into
            memory.
    """
    first = paths[0]
    if len(paths) == 1 and (first in registry.names("dataset") or not Path(first).exists()):
        return _of_data_set(first, num, shape, sizes)
    names, pictures, skipped = [], [], []
    frames, height, width = shape
    still = frames == 1 or all(Path(path).suffix.lower() in PICTURES for path in paths)
    kind, (files, remarks) = ("pictures", expand(paths)) if still else ("clips", expand_clips(paths))
    count = min(num, len(files))
    what = f"{count} {kind} of {height} x {width}, original and rebuilt,"
    if sizes is not None:
        what = f"{count} pictures of up to {sizes.most} pixels, original and rebuilt,"
    refuse_too_large(needs(count if still else count * frames), what, "Give a smaller --num.")
    for file in files:
        try:
            if sizes is not None:
                picture = _kept(file, sizes)
            else:
                picture = read_picture(file, height, width) if still else _clip(file, shape)
        except ArzooError as error:
            if file in paths:
                raise
            skipped.append(str(error))
            continue
        pictures.append(picture)
        names.append(file)
        if len(pictures) == num:
            break
    if not pictures:
        raise ArzooError(f"none of {len(skipped)} {kind} can be read, the first: {skipped[0]}")
    if skipped:
        damaged = "damaged pictures" if still else "clips that cannot be read"
        remarks.append(f"skipped {len(skipped)} {damaged}, the first: {skipped[0]}")
    remarks += remarks_on(names, ", ".join(paths)) if still else []
    for remark in remarks:
        note(f"warning: {remark}")
    return names, pictures, remarks


def _of_data_set(
    name: str, num: int, shape: tuple[int, int, int], sizes: Sizes | None
) -> tuple[list[str], list[Tensor], list[str]]:
    """Read from the validation split of a data set like `read`."""
    if Path(name).suffix:
        raise ArzooError(f"there is no file {name}")
    side = shape[1] if sizes is None else None
    data = load(name, side, shape[0], sizes=sizes).split("validation")
    rows = torch.linspace(0, len(data) - 1, min(num, len(data))).long()
    names = [f"{name} {data.classes[int(data.labels[row])].replace('/', '-')} {int(row)}" for row in rows]
    return names, [composite(data.pixels(row[None]))[0] for row in rows], list(data.report)


def _kept(file: str, sizes: Sizes) -> Tensor:
    """Read a picture in about its own shape."""
    whole = read_whole(file)
    try:
        size = sizes.fitted(whole.height, whole.width)
    except ArzooError as error:
        raise ArzooError(f"{file}: {error}") from error
    return torch.from_numpy(resized(whole, *size).copy())


def _clip(file: str, shape: tuple[int, int, int]) -> Tensor:
    frames, height, width = shape
    return torch.from_numpy(read_clip(file, frames, (height, width)))


def expand_clips(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """List the clip files of files and folders in order, with remarks on files that are left out.

    Raises:
        ArzooError: A folder has no clip.
    """
    files: list[str] = []
    remarks: list[str] = []
    for path in paths:
        folder = Path(path)
        listing = list_clips(folder) if folder.is_dir() else None
        if listing is None or (not listing.files and len(numbered(folder)) > 1):
            files.append(path)  # a folder of numbered pictures is a clip itself
            continue
        if not listing.files:
            raise ArzooError(f"{path} holds no clip ({', '.join(sorted(SUFFIXES))}, or numbered pictures)")
        files += map(str, listing.files)
        remarks += listing.remarks
    return files, remarks
