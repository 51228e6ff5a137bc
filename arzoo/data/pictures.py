"""Sets of pictures or clips to be scored: a data set, a folder, an npz file, or what a generator draws on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.data.base import ImageSet, spread
from arzoo.data.npz import NpzFile
from arzoo.data.picture_files import head, list_pictures, remarks_on
from arzoo.data.reading import SUFFIXES, NoBrightness, read_rgb, read_sized
from arzoo.data.transforms import composite

UNKNOWN = "not recorded"


@dataclass(kw_only=True)
class Pictures:
    """A set of pictures of one size, or of clips of one size and number of frames, read a few at a time.

    Attributes:
        name: Name of the set.
        count: Number of pictures.
        size: (H, W) in pixels; empty if there are only statistics.
        labels: Name of the class of every picture; None if unknown.
        chosen: How the classes were chosen, for the protocol.
        seeds: How the seeds follow from the request, for the protocol.
        lossy: Number of pictures in lossy formats.
        lossy_as: Names of those formats.
        notes: Remarks for readers of the scores.
        frames: Frames of a clip, 1 for pictures.
        timing: How clips were taken from longer ones, as far as it is known, for the protocol: `fps` (frames per
            second), `stride` (frames from the beginning of a clip to that of the next one of a file) and `start` in
            words.
        resizing: How pictures were brought to `size`, in words; empty if they have it by themselves.
        lasting: Whether it is the same set the next time, so that its features may be kept.
    """

    name: str
    count: int
    size: tuple[int, ...]
    labels: list[str] | None = None
    chosen: str = UNKNOWN
    seeds: str = UNKNOWN
    lossy: int = 0
    lossy_as: str = "JPEG"
    notes: list[str] = field(default_factory=list)
    frames: int = 1
    timing: dict[str, Any] = field(default_factory=dict)
    resizing: str = ""
    lasting: bool = False

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Tensor:
        """Read pictures as (B, H, W, 3) uint8, clips as (B, T, H, W, 3)."""
        raise NotImplementedError

    @property
    def noun(self) -> str:
        """What the set consists of: "pictures" or "clips"."""
        return "clips" if self.frames > 1 else "pictures"

    def loss(self, what: str) -> str:
        """Say how many pictures are in lossy formats; empty if none are.

        Args:
            what: What the pictures are, such as "samples".
        """
        return f"{self.lossy} of {self.count} {what} are {self.lossy_as}" if self.lossy else ""

    @property
    def sampling(self) -> dict[str, Any]:
        """Number of pictures, seeds and classes, as far as they are known, for the record."""
        return {"n": self.count, "seeds": self.seeds, "labels": self.chosen}

    @property
    def format(self) -> str:
        """Description of the pixels for the protocol."""
        if self.lossy:
            return f"uint8, {self.lossy} of {self.count} {self.lossy_as}"
        return "uint8, rounded, lossless"


class DataPictures(Pictures):
    """Pictures of a data set, on a white background, or its clips."""

    def __init__(self, data: ImageSet, name: str = "") -> None:
        labels = [data.classes[label] for label in data.labels.tolist()]
        super().__init__(name=name or data.name, count=len(data), size=data.size, labels=labels)
        self.data, self.frames, self.lasting, self.timing = data, data.frames, True, {}
        if data.frames > 1 and data.fps:
            self.timing = {"fps": data.fps}
        self.resizing = resizing_of(data)
        self.chosen = self.seeds = "those of the data"
        self.notes = list(data.report)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Read pictures as (B, H, W, 3) uint8, clips as (B, T, H, W, 3)."""
        return composite(self.data.pixels(torch.as_tensor(rows)))


class FolderPictures(Pictures):
    """Pictures of a folder and its sub-folders, each of which is a class, as `list_pictures` lists them.

    Args:
        folder: Folder of the pictures.
        size: (H, W) to which pictures are resized by their short side and cropped to the middle; if None, all pictures
            must have the same size.
        num: Number of pictures to take, evenly spread; 0 takes all.

    Raises:
        ArzooError: There is no picture, a file is damaged, or sizes differ.
    """

    def __init__(self, folder: Path, size: tuple[int, ...] | None = None, num: int = 0) -> None:
        listing = list_pictures(folder)
        if not listing.files:
            more = "".join(f". Besides, {remark}" for remark in listing.remarks)
            raise ArzooError(f"{folder} has no picture files ({', '.join(sorted(SUFFIXES))}){more}")
        self.files = [listing.files[i] for i in chosen_rows(len(listing.files), num)]
        heads = [head(path) for path in self.files]
        self.required_size = size
        super().__init__(name=listing.name, count=len(self.files), size=size or heads[0].size)
        self.notes = [*listing.remarks, *remarks_on(folder, heads)]
        self._check_sizes(folder, [picture.size for picture in heads])
        kinds = [picture.lossy_as for picture in heads if picture.lossy_as]
        self.lossy, self.lossy_as = len(kinds), " or ".join(sorted(set(kinds)))
        self._read_settings(folder, [picture.settings for picture in heads])

    def read(self, rows: Sequence[int]) -> Tensor:
        """Read pictures as (B, H, W, 3) uint8."""
        return torch.from_numpy(np.stack([self._picture(self.files[row]) for row in rows]))

    def _check_sizes(self, folder: Path, sizes: list[tuple[int, int]]) -> None:
        """Refuse pictures of different sizes, or note that they are resized."""
        other = [(path, size) for path, size in zip(self.files, sizes, strict=True) if size != self.size]
        if other and self.required_size is None:
            path, size = other[0]
            raise ArzooError(
                f"{folder} holds pictures of different sizes: {self.files[0].name} is {by(self.size)}, "
                f"{path.name} is {by(size)}. Scores compare sets of one size: crop or resize "
                "them first, or compare those of each size by themselves."
            )
        if other:
            path, size = other[0]
            self.resizing = (
                f"{len(other)} of {len(sizes)} to {by(self.size)} by their short side, the middle taken"
            )
            self.notes.append(
                f"{len(other)} of {len(sizes)} pictures of {folder} are not {by(self.size)} ({path.name} is "
                f"{by(size)}): they were resized, and their middle is taken"
            )

    def _picture(self, path: Path) -> np.ndarray:
        try:
            pixels = (
                np.asarray(read_rgb(path))
                if self.required_size is None
                else read_sized(path, *self.required_size)
            )
        except NoBrightness as error:
            raise ArzooError(f"{path} {error}") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ArzooError(f"{path} is not a whole picture ({error}). Replace or remove it.") from error
        if pixels.shape[:2] != self.size:
            raise ArzooError(f"{path} is {by(pixels.shape[:2])}, pictures of {by(self.size)} are compared")
        return pixels

    def _read_settings(self, folder: Path, settings: list[dict[str, Any]]) -> None:
        """Set classes and seeds from sub-folders or from the settings that `arzoo generate` wrote into pictures."""
        places = [path.relative_to(folder).parts for path in self.files]
        if all(len(parts) > 1 for parts in places):
            self.labels = [parts[0] for parts in places]
        elif all(picture.get("class") for picture in settings):
            self.labels = [str(picture["class"]) for picture in settings]
        if self.labels:
            self.chosen = f"in the files, {_spread_of(self.labels)}"
        seeds = {picture.get("seed") for picture in settings}
        seed = next(iter(seeds)) if len(seeds) == 1 else None
        if isinstance(seed, int) and all(
            picture.get("sample_seed") == sample_seed(seed, picture.get("index", -1)) for picture in settings
        ):
            self.seeds = f"sample_seed({seed}, i)"


class NpzPictures(Pictures):
    """Pictures of an npz file in the layout of the ADM evaluator, read one after another.

    Args:
        path: The file.
        num: Number of pictures to take, evenly spread; 0 takes all.

    Raises:
        ArzooError: The file holds no pictures, or is damaged.
    """

    def __init__(self, path: Path, num: int = 0) -> None:
        self.file = NpzFile(path)
        n, height, width, _ = self.file.pictures().shape
        self.rows = chosen_rows(n, num)
        super().__init__(name=path.name, count=len(self.rows), size=(height, width))
        self._stream: IO[bytes] | None = None
        self._next = 0
        if "arr_1" in self.file:
            labels = self.file.array("arr_1", 1, most=n)
            if len(labels) != n:
                raise ArzooError(f"{path} has {n} pictures (arr_0) and {len(labels)} labels (arr_1)")
            self.labels = [str(labels[row]) for row in self.rows]
            self.chosen = f"in the file, {_spread_of(self.labels)}"

    def read(self, rows: Sequence[int]) -> Tensor:
        """Read pictures as (B, H, W, 3) uint8; fast if rows ascend over all calls."""
        return torch.stack([self._picture(self.rows[row]) for row in rows])

    def _picture(self, row: int) -> Tensor:
        size = self.size[0] * self.size[1] * 3
        if self._stream is None or row < self._next:
            self._stream, self._next = self.file.open("arr_0"), 0
        while self._next <= row:
            pixels, self._next = self.file.read(self._stream, size), self._next + 1
        return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(*self.size, 3)


def chosen_rows(n: int, num: int) -> list[int]:
    """Return `num` evenly spread rows of n pictures, or all if `num` is 0.

    Raises:
        ArzooError: There are fewer pictures than `num`.
    """
    if num > n:
        raise ArzooError(f"--num {num} asks for more pictures than the {n} there are")
    return spread(n, num or n)


def resizing_of(data: ImageSet) -> str:
    """Say how the pictures of a folder were brought to one size; empty for other data."""
    if data.sides is None or {*data.sides} == {*data.size}:
        return ""
    cropped = data.cropping or "all are square"
    return f"from sides of {data.sides[0]} to {data.sides[1]} to {by(data.size)}; {cropped}"


def by(size: Sequence[int]) -> str:
    """Format a size, such as "64 x 64"."""
    return " x ".join(str(side) for side in size)


def _spread_of(labels: Sequence[str]) -> str:
    counts = [labels.count(name) for name in set(labels)]
    return f"{len(counts)} classes of {min(counts)} to {max(counts)} pictures"
