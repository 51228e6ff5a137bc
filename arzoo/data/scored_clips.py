"""Clips that are scored: how they are taken from files, and which of their frames count, such as the first 16 of 17.

Shapes: B clips, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.data import load
from arzoo.data.clip_files import VIDEOS, frames_of
from arzoo.data.clip_folder import list_clips
from arzoo.data.pictures import UNKNOWN, DataPictures, Pictures, chosen_rows


@dataclass(frozen=True)
class Frames:
    """A part of the frames of clips, in their order.

    Attributes:
        total: Number T of frames of the clips.
        first: Number of frames that are left out at the start.
        count: Number of frames after them.
        fps: Frames per second to which files of a folder are resampled, None to take every frame.
        stride: Frames from the beginning of a clip to that of the next one of a file, None for clips side by side.
    """

    total: int
    first: int
    count: int
    fps: float | None = None
    stride: int | None = None

    @property
    def words(self) -> str:
        """The part in words, for the protocol."""
        if self.count == self.total:
            return f"all {self.total}"
        if not self.first:
            return f"the first {self.count} of {self.total}"
        if self.first + self.count == self.total:
            return f"the last {self.count} of {self.total}, without the {self.first} given ones"
        return f"{self.first + 1} to {self.first + self.count} of {self.total}"

    def of(self, pictures: Pictures) -> Pictures:
        """Return these frames of every clip of a set.

        Raises:
            UsageError: Its clips have another number of frames.
        """
        if pictures.frames != self.total:
            raise UsageError(
                f"{pictures.name} has clips of {pictures.frames} frames, {self.total} are compared with: give clips "
                "of as many frames"
            )
        return pictures if self.count == self.total else SomeFrames(pictures, self)


class SomeFrames(Pictures):
    """Some frames of the clips of another set."""

    def __init__(self, clips: Pictures, part: Frames) -> None:
        super().__init__(**{name: getattr(clips, name) for name in _SAME}, frames=part.count)
        self.clips, self.part = clips, part

    @property
    def sampling(self) -> dict[str, object]:
        """That of the clips."""
        return self.clips.sampling

    def read(self, rows: Sequence[int]) -> Tensor:
        """Read the frames as (B, count, H, W, 3) uint8; a single one as pictures (B, H, W, 3)."""
        frames = self.clips.read(rows)[:, self.part.first : self.part.first + self.part.count]
        return frames[:, 0] if self.part.count == 1 else frames


class FolderClips(DataPictures):
    """Clips of a folder of videos, animations or numbered pictures, as `clip_folder` reads them.

    Args:
        folder: The folder.
        part: How many frames a clip has, and how it is taken from a file.
        size: (H, W) to which they are resized and cropped; by default the short side of the first file.
        num: Number of clips to take, evenly spread; 0 takes all.

    Raises:
        ArzooError: There is no clip that can be read.
    """

    def __init__(self, folder: Path, part: Frames, size: tuple[int, ...] | None = None, num: int = 0) -> None:
        side = size[0] if size else _short_side(folder)
        data = load(str(folder), side, part.total, part.fps, part.stride)
        super().__init__(data.select(torch.tensor(chosen_rows(len(data), num))), data.name)
        self.chosen, self.seeds = "in the files", UNKNOWN
        self.timing |= {"stride": part.stride or part.total, "start": "first frame of a file"}
        compressed = [Path(name).suffix for name in self.data.files if Path(name).suffix.lower() in _LOSSY]
        self.lossy, self.lossy_as = len(compressed), " or ".join(sorted(set(compressed)))


def _short_side(folder: Path) -> int:
    """Return the short side of the first clip that can be read."""
    for path in list_clips(folder).files:
        try:
            return min(next(iter(frames_of(path))).picture().size)
        except (OSError, ValueError, StopIteration):
            continue  # remarked upon when all are read
    return DEFAULT_SIDE


_LOSSY = VIDEOS | {".gif"}
"""Types that mostly lose: a video without loss cannot be told by its name."""
DEFAULT_SIDE = 64
_SAME = (
    "name", "count", "size", "labels", "chosen", "seeds", "lossy", "lossy_as", "notes", "timing", "resizing",
    "lasting",
)  # fmt: skip
