"""Data sets of pictures of unlike sizes, which keep their shapes: folders, and drawings without their margins.

Shapes: n pictures, H x W pixels of one of them, P pixels of all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.sizes import Sizes
from arzoo.data.base import ImageSet


@dataclass(frozen=True)
class AnySizeSet(ImageSet):
    """A data set of pictures of unlike sizes.

    Attributes:
        images: (P, 3) or (P, 4) uint8, the pixels of one picture after another, row by row.
        sizes: (n, 2) int64, (H, W) of each picture.
    """

    sizes: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.long))

    @cached_property
    def _ends(self) -> Tensor:
        """(n,) number of pixels up to and including each picture."""
        return self.sizes.prod(1).cumsum(0)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), if all pictures have one size.

        Raises:
            ArzooError: They have not.
        """
        if len(self.sizes.unique(dim=0)) > 1:
            raise ArzooError(
                f"the pictures of {self.name} have unlike sizes, {self.resolution}, and pictures of one size are "
                "needed: read them with sizes=square"
            )
        return self.least_size

    @property
    def least_size(self) -> tuple[int, int]:
        """Smallest H and smallest W of all pictures."""
        height, width = self.sizes.amin(0).tolist()
        return height, width

    @property
    def resolution(self) -> str:
        """Sizes of the pictures in words, width first."""
        different = self.sizes.unique(dim=0)
        order = different.prod(1).argsort(stable=True)
        first, last = (f"{width} x {height}" for height, width in different[order[[0, -1]]].tolist())
        return first if len(different) == 1 else f"{first} to {last}, {len(different)} sizes"

    @cached_property
    def sha256(self) -> str:
        """Hash of pixels, sizes, labels and `mirrorable`."""
        parts = (self.images, self.sizes, self.labels, self.mirrorable)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def pixels(self, rows: slice | Tensor) -> Tensor:
        """Return some pictures of one size as (B, H, W, 3 or 4) uint8, see `by_size`.

        Raises:
            ArzooError: Their sizes differ.
        """
        index = torch.arange(len(self))[rows]
        some = self.sizes[index]
        if len(some) == 0 or bool((some != some[0]).any()):
            raise ArzooError(
                f"pictures of {self.name} of unlike sizes cannot be one tensor: ask for those of a size (by_size)"
            )
        return self._flat(index).view(len(index), *some[0].tolist(), -1)

    def by_size(self, rows: Tensor) -> list[Tensor]:
        """Divide rows (B,) into those of each size, and return their places in `rows`, which ascend."""
        return same_rows(self.sizes[rows])

    def _flat(self, index: Tensor) -> Tensor:
        """Pixels of some pictures, one after another."""
        ends, counts = self._ends[index].tolist(), self.sizes[index].prod(1).tolist()
        parts = [self.images[end - count : end] for end, count in zip(ends, counts, strict=True)]
        return torch.cat([self.images[:0], *parts])

    def _images_of(self, rows: Tensor) -> dict[str, Any]:
        return {"images": self._flat(rows), "sizes": self.sizes[rows]}


def same_rows(values: Tensor) -> list[Tensor]:
    """Return the places, which ascend, of the rows of each kind among (n, k), kinds in the order of their values."""
    kinds, which = values.unique(dim=0, return_inverse=True)
    return [torch.nonzero(which == kind)[:, 0] for kind in range(len(kinds))]


def without_margins(data: ImageSet, sizes: Sizes) -> AnySizeSet:
    """Cut the transparent margins off drawings, as far as sizes of whole tokens allow; nothing is resized.

    Raises:
        ArzooError: The pictures have no opacity, do not divide into whole tokens, or a drawing has too few or too many
            pixels.
    """
    if data.frames > 1 or data.images.shape[-1] != 4:
        raise ArzooError(
            f"sizes=keep reads folders of pictures, and drawings with a transparent margin: {data.name} has "
            f"{'clips' if data.frames > 1 else 'pictures'} of one size. Leave sizes out"
        )
    if any(side % sizes.multiple for side in data.size):
        raise ArzooError(
            f"drawings of {data.size[0]} x {data.size[1]} pixels do not divide into tokens of {sizes.multiple} pixels. "
            "Take a tokenizer of other tokens, or leave sizes out"
        )
    cut, sides = [], []
    for drawing in data.images:
        opaque = drawing[..., 3] > 0
        top, height = _span(opaque.any(1), sizes.multiple)
        left, width = _span(opaque.any(0), sizes.multiple)
        if sizes.fitted(height, width) != (height, width):
            raise ArzooError(
                f"a drawing of {data.name} is {height} x {width} pixels, which is not allowed: {sizes}. Change "
                "model.least_pixels or model.most_pixels, or leave sizes out"
            )
        cut.append(drawing[top : top + height, left : left + width].reshape(-1, 4))
        sides.append((height, width))
    shared = {part.name: getattr(data, part.name) for part in fields(ImageSet)}
    shared |= {"images": torch.cat(cut), "cropping": "transparent margins are cut off"}
    return AnySizeSet(**shared, sizes=torch.tensor(sides))


def _span(opaque: Tensor, multiple: int) -> tuple[int, int]:
    """First pixel and number of pixels of what is opaque along a side (side,) bool, in whole multiples."""
    rows = torch.nonzero(opaque)[:, 0].tolist() or [0]
    least = rows[-1] + 1 - rows[0]
    count = -(-least // multiple) * multiple
    return min(max(rows[0] - (count - least) // 2, 0), len(opaque) - count), count
