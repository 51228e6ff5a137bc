"""Volumes to train on, by name: synthetic ones, or files with or without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from arzoo.base.console import note, progress
from arzoo.base.errors import ArzooError, UnknownName, UsageError
from arzoo.base.paths import expanded
from arzoo.core.volumes import Size, in_words
from arzoo.data.em import em_synthetic
from arzoo.data.volume import VoxelSource
from arzoo.data.volume_files import open_volume, read_labels
from arzoo.data.volume_formats import READERS

SUFFIXES = tuple(READERS)
SYNTHETIC = "em_synthetic"
"""Name of the synthetic volumes: number 0 is for evaluation, the others are for training."""
INPUTS, LABELS = "_inputs", "_labels"
"""Ends of the names of a volume's file and of that of its labels, as published data sets have them."""
HELD_OUT = 5
"""Of so many slices of a file, the last is held out; they lie together at the end of the volume."""


@dataclass(frozen=True)
class Part:
    """Slices of a volume.

    Attributes:
        source: The volume.
        labels: (Z, Y, X) int64 cells of the whole volume, None if nobody knows them.
        first: First slice.
        slices: Number of slices.
    """

    source: VoxelSource
    labels: Tensor | None
    first: int
    slices: int

    @property
    def sides(self) -> Size:
        """(Z, Y, X)."""
        _, y, x = self.source.sides
        return self.slices, y, x

    def crop(self, start: Size, sides: Size) -> tuple[Tensor, Tensor | None]:
        """Return voxels (Z, Y, X) uint8 and labels (Z, Y, X) int64 of a window inside of the part."""
        start = start[0] + self.first, start[1], start[2]
        area = tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))
        return self.source.read(start, sides), None if self.labels is None else self.labels[area]


def open_source(
    name: str, dataset: str = "", voxel_size: tuple[float, float, float] | None = None
) -> VoxelSource:
    """Open a volume: `em_synthetic`, or a file as `open_volume`.

    Raises:
        UnknownName: There is no such file.
        ArzooError: The file cannot be read.
    """
    if name == SYNTHETIC:
        note(f"making {SYNTHETIC}")
        return em_synthetic()
    return open_volume(existing(name), dataset, voxel_size)


def existing(name: str) -> Path:
    """Return the path of a file or folder of volumes.

    Raises:
        UnknownName: There is none.
    """
    path = Path(expanded(name))
    if not path.exists():
        raise UnknownName(
            "volume", name, [SYNTHETIC], f"Or give a file ({', '.join(SUFFIXES)}), or a folder of files."
        )
    return path


def labelled(name: str, dataset: str = "", labels: str = "") -> tuple[VoxelSource, Tensor | None]:
    """Open a volume, `em_synthetic` or a file, with its labels, None if nobody knows them; see `with_labels`.

    Raises:
        UnknownName: There is no such file.
        UsageError: `em_synthetic` was asked for an array of a file.
        ArzooError: The file cannot be read.
    """
    if name != SYNTHETIC:
        return with_labels(existing(name), dataset, labels)
    if dataset or labels:
        raise UsageError(f"{SYNTHETIC} is no file, and has no dataset {dataset or labels!r}. Leave it out.")
    note(f"making {SYNTHETIC}")
    volume = em_synthetic()
    return volume, volume.labels


def with_labels(path: Path, dataset: str = "", labels: str = "") -> tuple[VoxelSource, Tensor | None]:
    """Open the file of a volume, and read its labels: of NAME_inputs.h5 from NAME_labels.h5, or from the same file.

    Args:
        path: The file.
        dataset: Path of the voxels in an HDF5 file or a Zarr, as for `open_volume`.
        labels: Path of the labels in the same file; by default they are in the file beside it, if there is one.

    Raises:
        ArzooError: One of both cannot be read, or they differ in shape.
    """
    source, place = open_volume(path, dataset), path
    if not labels:
        place = path.with_name(path.name.replace(INPUTS, LABELS, 1))
        if INPUTS not in path.name or not place.exists():
            return source, None
    cells = read_labels(place, labels)
    if tuple(cells.shape) != source.sides:
        raise ArzooError(
            f"{place} has {in_words(cells.shape)} voxels, {path.name} {in_words(source.sides)}: labels are of another "
            "volume"
        )
    return source, cells


def training_parts(name: str, volumes: int) -> tuple[list[Part], list[Part]]:
    """Return the parts of volumes to train on, and those that are held out.

    Args:
        name: `em_synthetic`, a file, or a folder of files; NAME_inputs.h5 has its labels in NAME_labels.h5. Of a file,
            the last fifth of its slices is held out.
        volumes: Number of synthetic volumes to train on.

    Raises:
        ArzooError: There are no volumes, or one has too few slices, cannot be read, or has labels of another shape.
    """
    if name == SYNTHETIC:
        with progress("making synthetic volumes", "volumes") as report:
            made = []
            for seed in range(volumes + 1):
                made.append(em_synthetic(seed=seed))
                report(len(made), volumes + 1)
        whole = [Part(volume, volume.labels, 0, volume.sides[0]) for volume in made]
        return whole[1:], whole[:1]
    train, held_out = list[Part](), list[Part]()
    for path in _files(existing(name)):
        source, labels = with_labels(path)
        last = max(source.sides[0] // HELD_OUT, 1)
        if source.sides[0] <= last:
            raise ArzooError(
                f"{path} has one slice, of which none can be held out: give a volume of at least two"
            )
        train.append(Part(source, labels, 0, source.sides[0] - last))
        held_out.append(Part(source, labels, source.sides[0] - last, last))
    return train, held_out


def parts_sha256(parts: Sequence[Part]) -> str:
    """Return a hash of parts of volumes, with their labels."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.source.sha256} {part.first} {part.slices}\n".encode())
        if part.labels is not None:
            digest.update(part.labels.contiguous().numpy().data)
    return digest.hexdigest()


def _files(path: Path) -> Sequence[Path]:
    """Files of volumes in a folder, or the one that the path names."""
    if path.is_file() or path.name.lower().endswith(SUFFIXES):
        return [path]
    files = [
        each
        for each in sorted(path.iterdir())
        if each.name.lower().endswith(SUFFIXES) and LABELS not in each.name
    ]
    if not files:
        raise ArzooError(f"{path} holds no volumes: their names end with {', '.join(SUFFIXES)}")
    return files
