"""Volumes in files, of which only the part that is asked for is read, their labels, and writing both.

Voxels of 8 bits are read as they are. Others are scaled by the smallest and the largest of the whole volume, as in the
published pre-training of TokenUnify (arXiv 2405.16847), so that every part of a volume has the same scale.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arzoo.base.console import progress
from arzoo.base.errors import ArzooError, UsageError, require
from arzoo.base.files import atomic_file, atomic_folder, file_sha256
from arzoo.base.paths import expanded
from arzoo.core.volumes import Size, in_words
from arzoo.data.volume import refuse_beyond
from arzoo.data.volume_arrays import OpenArray, Sides
from arzoo.data.volume_formats import opened, suffix_of

EPSILON = 1e-8
"""Added to the range of values, as in the published pre-training."""
_BLOCK = 1 << 26
"""Bytes that are read at once where a whole volume is looked at."""
_LARGEST_NIFTI = 2**15 - 1
_CHUNK = (16, 128, 128)
"""Voxels that are packed together, about as deep in nanometers as wide."""


@dataclass(frozen=True)
class StoredVolume:
    """A volume in a file, a `VoxelSource`. The file is open only while it is read, so processes may share the object.

    Attributes:
        path: The file, or the folder of a Zarr.
        dataset: Path of the array in the file; empty in files of one array.
        sides: (Z, Y, X).
        dtype: Type of the numbers in the file.
        voxel_size: Sides of a voxel along z, y and x in nanometers, None if neither the file nor the caller says.
    """

    path: Path
    dataset: str
    sides: Size
    dtype: np.dtype
    voxel_size: Sides | None

    @property
    def name(self) -> str:
        """File and dataset."""
        return f"{self.path.name}/{self.dataset}" if self.dataset else self.path.name

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, or of the files of a folder, and of the name of the array."""
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        digest = hashlib.sha256(self.dataset.encode())
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(self.path)} {file_sha256(file)}\n".encode())
        return digest.hexdigest()

    def read(self, start: Size, sides: Size) -> Tensor:
        """Return a part, (Z, Y, X) uint8.

        Only the chunks, rows or pages that hold it are read, but for `.nii.gz`, which is decompressed up to its end.
        Unless the file has 8 bits, the first call reads the whole volume once (`extremes`).

        Raises:
            ArzooError: The part is not inside the volume, the file is damaged, or has values that are no numbers.
        """
        refuse_beyond(self.name, self.sides, start, sides)
        z, y, x = (slice(a, a + n) for a, n in zip(start, sides, strict=True))
        low, high = (0.0, 0.0) if self.dtype == np.uint8 else self.extremes
        with opened(self.path, self.dataset) as array:
            if (array.sides, array.dtype) != (self.sides, self.dtype):
                raise ArzooError(f"{self.path} has changed since it was opened. Open it again.")
            part = array.part((z, y, x))
        if self.dtype != np.uint8:
            part = np.rint((part.astype(np.float64) - low) * (255 / (high - low + EPSILON)))
        return torch.from_numpy(np.array(part, np.uint8))

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Smallest and largest value of the volume, found by reading it once.

        Raises:
            ArzooError: Some values are not finite; the message has their number and the first place.
        """
        low, high, wrong, first = math.inf, -math.inf, 0, self.sides
        with opened(self.path, self.dataset) as array, progress(f"range of {self.name}", "parts") as tell:
            blocks = list(_blocks(array))
            for number, block in enumerate(blocks, 1):
                part = array.part(block)
                bad = ~np.isfinite(part)
                if bad.any():
                    wrong += int(bad.sum())
                    z, y, x = (
                        int(i) + axis.start for i, axis in zip(np.argwhere(bad)[0], block, strict=True)
                    )
                    first = min(first, (z, y, x))
                else:
                    low, high = min(low, float(part.min())), max(high, float(part.max()))
                tell(number, len(blocks))
        if wrong:
            raise ArzooError(
                f"{self.name}: {wrong} voxels are NaN or infinite, the first at z, y, x = {first}. Replace them first."
            )
        return low, high


def open_volume(path: str | Path, dataset: str = "", voxel_size: Sides | None = None) -> StoredVolume:
    """Open a volume in a file of HDF5, NIfTI, TIFF or Zarr; no voxels are read yet.

    Args:
        path: File (.h5 .hdf5 .hdf, .nii .nii.gz, .tif .tiff), or folder of a Zarr; of an OME-Zarr, level 0 is taken.
        dataset: Path of the array in an HDF5 file or a Zarr;
            by default the only one of three dimensions, or else `main`.
        voxel_size: Sides of a voxel along z, y and x in nanometers; by default what the file says: `resolution` or
            `element_size_um` of HDF5 and Zarr, the size and unit of NIfTI, OME-TIFF, ImageJ and OME-Zarr. Sizes
            without a unit are none.

    Raises:
        UsageError: Nothing reads files of this name, or the voxel size is no size.
        UnknownName: There is no such array.
        ArzooError: There is no such file, it is damaged, or holds no volume.
        MissingPackage: The extra `em` is not installed.
    """
    if voxel_size is not None:
        _check_voxel_size(voxel_size)
    place = Path(expanded(path))
    with opened(place, dataset) as array:
        found = array
    return StoredVolume(place, found.dataset, found.sides, found.dtype, voxel_size or found.voxel_size)


def read_labels(path: str | Path, dataset: str = "") -> Tensor:
    """Read the number of the cell of each voxel, (Z, Y, X) int64, exactly.

    Args:
        path: As for `open_volume`.
        dataset: As for `open_volume`.

    Raises:
        ArzooError: Labels are no integers, negative, or do not fit 64 bits with a sign; or as for `open_volume`.
    """
    place = Path(expanded(path))
    with opened(place, dataset) as array:
        if array.dtype.kind == "f":
            raise ArzooError(f"{place}: labels are integers, these are {array.dtype}. Save them as integers.")
        labels = torch.empty(array.sides, dtype=torch.int64)
        for block in _blocks(array):
            part = array.part(block)
            low, high = int(part.min()), int(part.max())
            if low < 0:
                raise ArzooError(f"{place}: a label is {low}; labels count from 1, and 0 is no cell")
            if high >= 2**63:
                raise ArzooError(
                    f"{place}: a label is {high}, at most 2^63 - 1 can be read. Where it marks the background, write 0."
                )
            labels[block] = torch.from_numpy(part.astype(np.int64))
    return labels


def write_volume(
    path: str | Path,
    voxels: Tensor,
    voxel_size: Sides | None = None,
    dataset: str = "main",
    overwrite: bool = False,
) -> None:
    """Write voxels or labels, completely or not at all, so that `open_volume` and `read_labels` give them back.

    Args:
        path: File, or folder of a Zarr; the suffix says which format: HDF5 (packed by gzip), TIFF (of ImageJ if it has
            8 bits), NIfTI, OME-Zarr 0.4.
        voxels: (Z, Y, X) uint8 or int64.
        voxel_size: Sides of a voxel along z, y and x in nanometers.
        dataset: Name of the array in an HDF5 file or a Zarr.
        overwrite: Whether a file or folder of this name is replaced.

    Raises:
        UsageError: No format has this suffix, or the voxel size is no size.
        ArzooError: The file exists, or the format cannot hold these voxels.
        MissingPackage: The extra `em` is not installed.
    """
    if voxel_size is not None:
        _check_voxel_size(voxel_size)
    if voxels.dim() != 3 or 0 in voxels.shape or voxels.dtype not in (torch.uint8, torch.int64):
        raise ArzooError(
            f"a volume is (Z, Y, X) uint8 or int64, got {tuple(voxels.shape)} {voxels.dtype}. Convert it first."
        )
    place = Path(expanded(path))
    suffix, values = suffix_of(place), voxels.detach().cpu().contiguous().numpy()
    if suffix == ".zarr":
        with atomic_folder(place, overwrite) as folder:
            _write_zarr(folder, values, voxel_size, dataset)
        return
    with atomic_file(place, overwrite) as file:
        if suffix.startswith(".nii"):
            _write_nifti(file, values, voxel_size, packed=suffix == ".nii.gz")
        elif suffix.startswith(".tif"):
            _write_tiff(file, values, voxel_size)
        else:
            _write_hdf5(file, values, voxel_size, dataset)


def _write_hdf5(path: Path, values: np.ndarray, size: Sides | None, dataset: str) -> None:
    chunks = tuple(min(pair) for pair in zip(_CHUNK, values.shape, strict=True))
    with require("h5py", "em").File(path, "w") as file:
        stored = file.create_dataset(dataset, data=values, chunks=chunks, compression="gzip")
        if size is not None:
            stored.attrs["resolution"] = size


def _write_nifti(path: Path, values: np.ndarray, size: Sides | None, packed: bool) -> None:
    nibabel = require("nibabel", "em")
    if max(values.shape) > _LARGEST_NIFTI:
        raise ArzooError(
            f"NIfTI holds at most {_LARGEST_NIFTI} voxels a side, got {in_words(values.shape)}. Use .h5 or .zarr."
        )
    image = nibabel.Nifti1Image(values.transpose(), None, dtype=values.dtype)
    if size is not None:
        image.header.set_xyzt_units("micron")
        image.header.set_zooms([side / 1e3 for side in reversed(size)])
    with path.open("wb") as file:
        if packed:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)


def _write_tiff(path: Path, values: np.ndarray, size: Sides | None) -> None:
    settings: dict[str, Any] = {"metadata": {"axes": "ZYX"}}
    if size is not None:
        settings["metadata"].update(spacing=size[0], unit="nm")
        settings.update(resolution=(1 / size[2], 1 / size[1]), resolutionunit="NONE")
    # ImageJ has no integers of 64 bits, and tifffile gives a stack of one slice back as a picture.
    settings["imagej"] = values.dtype == np.uint8 and values.nbytes < 2**31
    require("tifffile", "em").imwrite(path, values, photometric="minisblack", compression="zlib", **settings)


def _write_zarr(folder: Path, values: np.ndarray, size: Sides | None, dataset: str) -> None:
    zarr = require("zarr", "em")
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    chunks = tuple(min(pair) for pair in zip(_CHUNK, values.shape, strict=True))
    keys = {"name": "v2", "separator": "/"}
    stored = group.create_array(
        dataset, shape=values.shape, dtype=values.dtype, chunks=chunks, chunk_key_encoding=keys
    )
    stored[:] = values
    unit = {} if size is None else {"unit": "nanometer"}
    scale = {"type": "scale", "scale": list(size or (1.0, 1.0, 1.0))}
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
            "datasets": [{"path": dataset, "coordinateTransformations": [scale]}],
        }
    ]


def _check_voxel_size(size: Sides) -> None:
    if len(size) != 3 or not all(math.isfinite(side) and side > 0 for side in size):
        raise UsageError(f"a voxel size is three lengths in nanometers along z, y and x, got {size}")


def _blocks(array: OpenArray) -> Iterator[tuple[slice, slice, slice]]:
    """Cover a volume with parts of whole chunks and about `_BLOCK` bytes, in the order of the file."""
    block = [min(pair) for pair in zip(array.chunks, array.sides, strict=True)]
    for axis in (2, 1, 0):
        times = _BLOCK // (math.prod(block) * array.dtype.itemsize)
        block[axis] = min(block[axis] * max(times, 1), array.sides[axis])
    ranges = (range(0, side, step) for side, step in zip(array.sides, block, strict=True))
    for corner in itertools.product(*ranges):
        z, y, x = (slice(a, min(a + n, s)) for a, n, s in zip(corner, block, array.sides, strict=True))
        yield z, y, x
