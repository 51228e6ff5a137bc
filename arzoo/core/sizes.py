"""Sizes of pictures for tokenizers that take any: the nearest one with whole tokens and an allowed number of pixels.

"Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution", 2024, section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from arzoo.base.errors import ArzooError

MOST_ASPECT = 200
"""Largest ratio of the sides of a picture."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of pictures that a tokenizer takes.

    Attributes:
        multiple: Side of a token in pixels.
        least: Smallest number of pixels of a picture.
        most: Largest number of pixels of a picture.
    """

    multiple: int
    least: int
    most: int

    def __str__(self) -> str:
        return f"sides in multiples of {self.multiple}, {self.least} to {self.most} pixels"

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (H, W) to which a picture is resized: almost its shape, and one of these sizes.

        Args:
            height: Height of the picture in pixels.
            width: Its width.

        Raises:
            ArzooError: The picture is too long and thin, or empty, or no such size has an allowed number of pixels.
        """
        if min(height, width) < 1 or max(height, width) > MOST_ASPECT * min(height, width):
            raise ArzooError(
                f"a picture of {height} x {width} pixels is too thin: one side may be at most {MOST_ASPECT} times the "
                "other. Crop it."
            )
        multiple = self.multiple
        sides = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
        if sides[0] * sides[1] > self.most:
            scale = math.sqrt(self.most / (height * width))
            sides = [
                max(multiple, math.floor(side * scale / multiple) * multiple) for side in (height, width)
            ]
        elif sides[0] * sides[1] < self.least:
            scale = math.sqrt(self.least / (height * width))
            sides = [math.ceil(side * scale / multiple) * multiple for side in (height, width)]
        if not self.least <= sides[0] * sides[1] <= self.most:
            raise ArzooError(
                f"a picture of {height} x {width} pixels has no size of about its shape with {self.least} to "
                f"{self.most} pixels and sides that are multiples of {multiple}. Crop it, or allow other numbers of "
                "pixels."
            )
        return sides[0], sides[1]
