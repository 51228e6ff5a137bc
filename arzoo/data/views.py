"""Views: the copies of a picture that are encoded into a code cache.

* "augment": the clean picture and any number of random variations;
* "flip": the picture and its mirror image, as MAR ("Autoregressive Image Generation without Vector
  Quantization", 2024);
* "ten_crop": the corners and the middle of the picture enlarged by a tenth, and their mirror images, as LlamaGen
  ("Autoregressive Model Beats Diffusion", 2024).

View 0 is always the picture itself, which validation uses. Pictures that must not be mirrored keep their direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import functional as F

from arzoo.base.errors import ArzooError
from arzoo.core.draws import step_rng
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.data.transforms import augment, composite, to_model

BLOCK = 64
"""Pictures that share one random generator, so that a view does not depend on the batch size of encoding."""
ENLARGED = 1.1


@dataclass(frozen=True)
class Views:
    """The copies of a picture.

    Attributes:
        kind: "augment", "flip" or "ten_crop".
        variants: Number of random variations beside the clean picture, for "augment".
        policy: Settings of the variations.
    """

    kind: Literal["augment", "flip", "ten_crop"] = "augment"
    variants: int = 0
    policy: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if self.variants < 0 or (self.variants and self.kind != "augment"):
            raise ArzooError(
                f"variants={self.variants} with views {self.kind!r}: random variants are 0 or more, and belong to "
                "'augment'"
            )

    @property
    def count(self) -> int:
        """Number of copies of a picture, including the picture itself."""
        return {"augment": 1 + self.variants, "flip": 2, "ten_crop": 11}[self.kind]

    def key(self, data: ImageSet) -> str:
        """Return the identifier of the transform of a data set: equal keys give equal codes."""
        if self.kind != "augment":
            return self.kind
        # Older caches have white where pictures without opacity were moved away.
        edges = "-edges" if self.variants and data.images.shape[-1] == 3 else ""
        return f"augment-{self.policy.hash()}{edges}"

    def block(self, data: ImageSet, view: int, first: int) -> Tensor:
        """Return view number `view` of at most 64 pictures from number `first` on, (B, 3, H, W) in [-1, 1].

        Clips are (B, 3, T, H, W); all frames of a clip have the same view.

        Raises:
            ArzooError: The pictures have unlike sizes, see `parts`.
        """
        rows = _rows(data, first)
        return self._of(data, view, rows, self._uniform(view, first, len(rows)))

    def parts(self, data: ImageSet, view: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the pictures of a block by size: their places in it (B,), and the pictures as of `block`."""
        rows = _rows(data, first)
        uniform = self._uniform(view, first, len(rows))
        for places in data.by_size(rows):
            yield places, self._of(data, view, rows[places], None if uniform is None else uniform[places])

    def _uniform(self, view: int, first: int, count: int) -> Tensor | None:
        """Random numbers (B, 9) of a block; None for views that are not random."""
        if not view or self.kind != "augment":
            return None
        return torch.rand(count, 9, generator=step_rng(view, first))

    def _of(self, data: ImageSet, view: int, rows: Tensor, uniform: Tensor | None) -> Tensor:
        images, mirrorable = data.pixels(rows), data.mirrorable[rows]
        if uniform is not None:
            return augment(images, mirrorable, uniform, self.policy)
        x = to_model(composite(images))
        if not view:
            return x
        if self.kind == "flip":
            return _mirror(x, mirrorable)
        side, planes = list(x.shape[-2:]), x.flatten(1, -3)
        large = F.resize(planes, [round(n * ENLARGED) for n in side], antialias=True).clamp(-1, 1)
        crop = F.five_crop(large, side)[(view - 1) % 5].unflatten(1, x.shape[1:-2])
        return _mirror(crop, mirrorable) if view > 5 else crop


def _rows(data: ImageSet, first: int) -> Tensor:
    """Numbers of the pictures of a block."""
    return torch.arange(first, min(first + BLOCK, len(data)))


def _mirror(x: Tensor, mirrorable: Tensor) -> Tensor:
    return torch.where(mirrorable.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)
