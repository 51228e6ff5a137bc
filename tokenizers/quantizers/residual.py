"""Residual vector quantization: every level quantizes the remainder of the levels before it.

"Autoregressive Image Generation using Residual Quantization", 2022, section 3.1; levels are dropped at random in
training as in "SoundStream", 2021, section III-C, so that the first q levels can be decoded for any q.

Shapes: ... any leading axes, C channels, Q levels, K codes of a level, n vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.quantizers.base import Quantization, Quantizer, exact


class ResidualVQ(Quantizer):
    """One codebook per level; the code is the nearest in squared distance.

    Args:
        vocab: Codes K of a level.
        channels: Width C.
        levels: Number of levels Q.
        shared: Use one codebook for all levels.
        dropout: Probability that a vector in training keeps only its first q levels, q uniform in 1 to Q.

    Raises:
        ArzooError: `levels` is below 1, or `dropout` is outside [0, 1].
    """

    def __init__(
        self, vocab: int, channels: int, levels: int, shared: bool = False, dropout: float = 0.0
    ) -> None:
        if levels < 1 or not 0 <= dropout <= 1:
            raise ArzooError(
                f"residual VQ needs at least 1 level and a dropout from 0 to 1, got {levels} levels, dropout {dropout}"
            )
        super().__init__(vocab, channels)
        self.levels, self.dropout = levels, dropout
        self.codebooks = nn.Parameter(torch.empty(1 if shared else levels, vocab, channels).normal_(0, 0.1))

    def forward(self, z: Tensor, keep: Tensor | None = None) -> Quantization:
        """Quantize (..., C).

        The commitment and codebook losses compare the sum after every kept level with the vector (RQ-VAE, equation 7).

        Args:
            z: Vectors.
            keep: (...) number of levels, 1 to Q, that each vector keeps; by default all, or as `dropout` says in
                training.
        """
        with exact(z.device):
            z = z.float()
            if keep is None:
                keep = self._keep(z)
            total, codes = torch.zeros_like(z), []
            commitment, codebook = z.new_zeros(()), z.new_zeros(())
            for level in range(self.levels):
                table = self.table(level)
                with torch.no_grad():
                    index = nearest((z - total).reshape(-1, z.shape[-1]), table).view(z.shape[:-1])
                codes.append(index)
                kept = (level < keep)[..., None]
                total = total + F.embedding(index, table) * kept
                error = ((total - z.detach()).square() * kept).sum() / kept.expand_as(z).sum().clamp(min=1)
                codebook = codebook + error / self.levels
                error = ((z - total.detach()).square() * kept).sum() / kept.expand_as(z).sum().clamp(min=1)
                commitment = commitment + error / self.levels
            stacked = torch.stack(codes, -1)
            if self.training:
                self.remember(stacked.flatten())
            losses = {"codebook": codebook, "commitment": commitment}
            return Quantization(z + (total - z).detach(), stacked, losses)

    def table(self, level: int) -> Tensor:
        """Codebook (K, C) of a level."""
        return self.codebooks[level % len(self.codebooks)].float()

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., C), float32, of codes (..., q): the sum of the first q <= Q levels.

        Raises:
            ArzooError: q is outside 1 to Q.
        """
        if not 1 <= codes.shape[-1] <= self.levels:
            raise ArzooError(f"a vector has 1 to {self.levels} codes here, got {codes.shape[-1]}")
        return torch.stack(
            [F.embedding(index, self.table(level)) for level, index in enumerate(codes.unbind(-1))]
        ).sum(0)

    def _keep(self, z: Tensor) -> Tensor:
        keep = torch.full(z.shape[:-1], self.levels, device=z.device)
        if not (self.training and self.dropout):
            return keep
        dropped = torch.rand(keep.shape, device=z.device) < self.dropout
        return torch.where(dropped, torch.randint_like(keep, 1, self.levels + 1), keep)


def nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """Index (n,) of the nearest row of a table (K, C) for each of the vectors (n, C), float32.

    Both are centred on the table's mean first: |v|^2 - 2 v t + |t|^2 loses digits where norms are large compared to
    distances.
    """
    centre = table.mean(0)
    vectors, table = vectors - centre, table - centre
    return (table.square().sum(1) - 2 * vectors @ table.T).argmin(1)
