"""Frames of clips that are scored: all of them, or a part such as the first 16 of 17.

Shapes: B clips, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.data.pictures import Pictures


@dataclass(frozen=True)
class Frames:
    """A part of the frames of clips, in their order.

    Attributes:
        total: Number T of frames of the clips.
        first: Number of frames that are left out at the start.
        count: Number of frames after them.
    """

    total: int
    first: int
    count: int

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


_SAME = (
    "name", "count", "size", "labels", "chosen", "seeds", "lossy", "lossy_as", "notes", "timing", "lasting",
)  # fmt: skip
