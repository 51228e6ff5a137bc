"""Vector quantization: the code of a vector is its nearest neighbor in a table.

"Neural Discrete Representation Learning", 2017, section 3; l2-normalised codes from "Vector-quantized Image
Modeling with Improved VQGAN", 2021, section 3.2, in the arithmetic of LlamaGen, 2024. The codebook is stored
as it is and normalized at every use. Distances are computed in float32 whatever the precision of the network: in
bf16 a large codebook gives the wrong neighbors.

Shapes: ... any leading axes, C channels, n vectors, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.tokenizers.quantizers.base import Quantization, Quantizer, exact

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


@dataclass
class NearestCodes(Quantization):
    """Result of a vector quantization, with the latents and codes that its entropy is computed from.

    Attributes:
        latents: (n, C) vectors, normalized where the quantizer compares on the unit sphere.
        table: (K, C) codes, normalized likewise.
    """

    latents: Tensor | None = None
    table: Tensor | None = None

    def entropy(self) -> Tensor:
        """Mean entropy of a position minus the entropy of the mean: low when positions are certain and codes even."""
        assert self.latents is not None
        assert self.table is not None
        with exact(self.table.device):
            return entropy_term(squared_distances(self.latents, self.table))

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Unweighted loss terms; the entropy only if it has a weight."""
        return self.losses | ({"entropy": self.entropy()} if weights.entropy else {})


class VectorQuantizer(Quantizer):
    """A codebook, and a record of which codes were used recently.

    Args:
        vocab: Number of codes K.
        channels: Width C of a code.
        history: Number of uses that the record holds.
        unit: Compare codes and vectors on the unit sphere.
        unit_codes: If `unit`, whether the codes are put on the sphere too. OmniTokenizer takes them as they are,
            so they leave the sphere in training.
    """

    def __init__(
        self, vocab: int, channels: int, history: int = 65536, unit: bool = True, unit_codes: bool = True
    ) -> None:
        super().__init__(vocab, channels, history, stored=True)
        self.unit, self.unit_codes = unit, unit_codes
        self.embedding = nn.Embedding(vocab, channels)
        with torch.no_grad():
            self.embedding.weight.copy_(self._placed(self.embedding.weight.uniform_(-1 / vocab, 1 / vocab)))

    def _placed(self, vectors: Tensor) -> Tensor:
        """Vectors (..., C) in float32, on the unit sphere if `unit`."""
        return F.normalize(vectors.float(), dim=-1) if self.unit else vectors.float()

    @property
    def stored_codes(self) -> Tensor:
        """The tensor (K, C) that holds the codes."""
        return self.embedding.weight

    @property
    def table(self) -> Tensor:
        """(K, C) codes, float32, on the unit sphere if `unit` and `unit_codes`."""
        return self._placed(self.embedding.weight) if self.unit_codes else self.embedding.weight.float()

    def forward(self, z: Tensor) -> NearestCodes:
        """Quantize (..., C). In training mode the codes are recorded as used.

        The losses are `codebook`, which pulls codes to the vectors, and `commitment`, which pulls vectors to the codes;
        both have the same value.
        """
        with exact(z.device):
            z = self._placed(z)
            flat, table = z.reshape(-1, z.shape[-1]), self.table
            with torch.no_grad():
                codes = self.assign(z, table).flatten()
            if self.training:
                self.remember(codes)
            quantized = F.embedding(codes, table).view(z.shape)
            losses = {
                "codebook": F.mse_loss(quantized, z.detach()),
                "commitment": F.mse_loss(z, quantized.detach()),
            }
            # The sum is kept in evaluation too: it differs from the code by a rounding error that published pictures
            # contain.
            through = z + (quantized - z).detach()
            return NearestCodes(through, codes.view(z.shape[:-1]), losses, flat, table)

    def assign(self, vectors: Tensor, table: Tensor) -> Tensor:
        """Codes (...) of vectors (..., C), of a table (K, C): the nearest ones."""
        return squared_distances(vectors.flatten(0, -2), table).argmin(1).view(vectors.shape[:-1])

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., C), float32, of codes (...)."""
        return F.embedding(codes, self.table)

    @torch.no_grad()
    def restart(self, latents: Tensor, rng: torch.Generator, everything: bool = False) -> list[int]:
        """Move codes that were not used recently onto latents, each with a little noise so that no two are equal.

        Args:
            latents: (..., C) encoder outputs to draw new codes from.
            rng: Randomness of the choice and of the noise.
            everything: Move all codes: the first seeding, once the encoder has left its initial state.

        Returns:
            The codes that were moved.
        """
        pool = self._placed(latents).reshape(-1, self.channels)
        dead = (
            torch.ones(self.vocab, dtype=torch.bool, device=pool.device) if everything else self.usage() == 0
        )
        count = int(dead.sum())
        if count:
            # Without repeats while the pool lasts: codes from the same latent would differ by their noise only.
            order = torch.randperm(len(pool), generator=rng).repeat(-(-count // len(pool)))[:count]
            noise = torch.randn(count, self.channels, generator=rng).to(pool.device)
            moved = self._placed(pool[order.to(pool.device)] + 0.01 * noise)
            self.embedding.weight[dead] = moved.to(self.embedding.weight.dtype)
        if dist.is_available() and dist.is_initialized():  # latents may differ in their last bits
            dist.broadcast(self.embedding.weight.data, 0)
        return torch.nonzero(dead)[:, 0].tolist()


def squared_distances(latents: Tensor, table: Tensor) -> Tensor:
    """Squared distances (..., K) of latents (..., C) and codes (K, C), as the sum of the three terms of published code.

    The same terms break ties alike.
    """
    return latents.square().sum(-1, keepdim=True) + table.square().sum(-1) - 2 * (latents @ table.T)


def entropy_term(distances: Tensor, temperature: float = 0.01) -> Tensor:
    """Mean entropy of the code distribution of a position, minus the entropy of the mean distribution.

    Args:
        distances: (n, K) squared distances.
        temperature: Temperature of the softmax over codes.
    """
    log_p = (-distances / temperature).log_softmax(-1)
    p = log_p.exp()
    mean = p.mean(0)
    # The small number inside the logarithm is the published one.
    return -(p * log_p).sum(1).mean() + (mean * (mean + 1e-5).log()).sum()
