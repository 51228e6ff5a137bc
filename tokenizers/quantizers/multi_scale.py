"""Multi-scale residual vector quantization: levels of rising size, one codebook; each quantizes what is left.

"Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction", 2024, section 3.2 and algorithms
1 and 2. A level averages what the coarser ones have left down to its own size and takes the nearest codes. Their
vectors are enlarged to the finest size by bicubic interpolation and pass one of a few convolutions, which neighboring
levels share; the sum of all levels is the quantized picture.

Shapes: B pictures, C channels, h x w finest grid, n positions of a level, N of all levels, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Pyramid
from arzoo.tokenizers.quantizers.base import Quantization, exact
from arzoo.tokenizers.quantizers.vq import VectorQuantizer

SHARE = 0.5
"""Share of the convolution in what a level adds; the rest passes unchanged."""


def shared_by(levels: int, convolutions: int) -> list[int]:
    """Return for each level the number of its convolution: the one whose tick is nearest on the way to the last level.

    Some choices are ties that rounding decides, so this is the published arithmetic in float64.

    Raises:
        ArzooError: There is no convolution.
    """
    if convolutions < 1:
        raise ArzooError(f"levels share at least one convolution, got {convolutions}")
    margin = 1 / (3 if convolutions == 4 else 2) / convolutions
    ticks = np.linspace(margin, 1 - margin, convolutions)
    return [int(np.argmin(np.abs(ticks - level / max(levels - 1, 1)))) for level in range(levels)]


class MultiScaleQuantizer(VectorQuantizer):
    """One codebook for all levels of a pyramid.

    Args:
        vocab: Number of codes K.
        channels: Width C of a code.
        layout: The levels; the last one is the grid of the vectors.
        convolutions: Number of convolutions that the levels share.
        cosine: Take the code of the nearest direction instead of the nearest code.
    """

    def __init__(
        self, vocab: int, channels: int, layout: Pyramid, convolutions: int = 4, cosine: bool = False
    ) -> None:
        super().__init__(vocab, channels, unit=False)
        self.layout, self.cosine = layout, cosine
        self.shared_by = shared_by(len(layout.levels), convolutions)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convolutions)
        )

    def assign(self, vectors: Tensor, table: Tensor) -> Tensor:
        """Codes (...) of vectors (..., C), of a table (K, C)."""
        if not self.cosine:
            return super().assign(vectors, table)
        return (F.normalize(vectors, dim=-1) @ F.normalize(table, dim=-1).T).argmax(-1)

    def forward(self, z: Tensor) -> Quantization:
        """Quantize (B, C, h, w); codes (B, N). In training mode the codes are recorded as used.

        The losses compare the sum after every level with the vectors, and are means over the levels.
        """
        with exact(z.device):
            z = z.float()
            codes, sums, _ = zip(*self.by_level(z), strict=True)
            stacked = torch.cat(codes, 1)
            if self.training:
                self.remember(stacked.flatten())
            losses = {
                "codebook": torch.stack([F.mse_loss(total, z.detach()) for total in sums]).mean(),
                "commitment": torch.stack([F.mse_loss(total.detach(), z) for total in sums]).mean(),
            }
            return Quantization(z + (sums[-1] - z).detach(), stacked, losses)

    def by_level(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Quantize (B, C, h, w) level by level, coarse to fine.

        Yields:
            Codes (B, n) of a level, the sum (B, C, h, w) up to it, and the vectors (B, n, C) that it quantized.
        """
        rest, total = z.detach(), torch.zeros_like(z)
        for level, grid in enumerate(self.layout.levels):
            vectors = F.adaptive_avg_pool2d(rest, (grid.h, grid.w)).flatten(2).transpose(1, 2)
            with torch.no_grad():
                codes = self.assign(vectors, self.table)
            added = self.added(self.lookup(codes), level)
            rest, total = rest - added.detach(), total + added
            yield codes, total, vectors

    def added(self, vectors: Tensor, level: int) -> Tensor:
        """What a level adds, (B, C, h, w), from the vectors (B, n, C) of its codes."""
        grid, finest = self.layout.levels[level], self.layout.levels[-1]
        x = vectors.transpose(1, 2).unflatten(2, (grid.h, grid.w))
        if level < len(self.layout.levels) - 1:
            x = F.interpolate(x, (finest.h, finest.w), mode="bicubic")
        return (1 - SHARE) * x + SHARE * self.convolutions[self.shared_by[level]](x)

    def summed(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Sum (B, C, h, w) of all levels of vectors (B, N, C), of which some are present (B, N) bool.

        An absent vector is zero, and a level without any adds nothing.
        """
        with exact(vectors.device):
            vectors, spans = (
                vectors * present[..., None],
                [*map(self.layout.span, range(len(self.layout.levels)))],
            )
            return torch.stack(
                [
                    self.added(vectors[:, span], level) * present[:, span].any(1)[:, None, None, None]
                    for level, span in enumerate(spans)
                ]
            ).sum(0)


@dataclass(frozen=True, eq=False)
class LevelSums:
    """The sums of levels of a quantizer, as `arzoo.core.tokens.LatentCanvas`; without gradients."""

    quantizer: MultiScaleQuantizer

    @property
    def channels(self) -> int:
        """Width C of a code."""
        return self.quantizer.channels

    @property
    def table(self) -> Tensor:
        """(K, C) codes, float32."""
        return self.quantizer.table.detach()

    def __call__(self, values: Tensor, upto_level: int, from_level: int = 0) -> Tensor:
        """Sum of what some levels add, see `LatentCanvas`.

        On a CPU outside of training it is computed picture by picture, because convolutions round by the batch size.
        """
        alone = values.device.type == "cpu" and not torch.is_grad_enabled()
        with torch.no_grad(), exact(values.device):
            vectors = values if values.is_floating_point() else self.quantizer.lookup(values)
            return torch.cat(
                [
                    self._sum(part, from_level, upto_level)
                    for part in vectors.split(1 if alone else len(values))
                ]
            )

    def _sum(self, vectors: Tensor, first: int, last: int) -> Tensor:
        layout, finest = self.quantizer.layout, self.quantizer.layout.levels[-1]
        total = vectors.new_zeros(len(vectors), self.channels, finest.h, finest.w)
        for level in range(first, last):
            total = total + self.quantizer.added(vectors[:, layout.span(level)], level)
        return total
