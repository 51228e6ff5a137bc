"""Vector quantisation on the unit sphere.

"Neural Discrete Representation Learning", 2017, section 3; l2-normalised codes from "Vector-quantized Image
Modeling with Improved VQGAN", 2021, section 3.2, in the arithmetic of LlamaGen, 2024. The stored codebook is
not normalised; it is at every use. Distances are computed in float32 whatever the precision around them: in
bf16 a large codebook gives the wrong neighbours.

Shapes: B pictures, C channels, h x w grid, n = B * h * w places, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.runtime import full_precision
from arzoo.tokenizers.common.bottleneck import Bottleneck

if TYPE_CHECKING:
    from arzoo.tokenizers.common.losses import TokenizerLossConfig

EMPTY = -1


@dataclass
class Quantised(Bottleneck):
    """Result of a quantisation.

    Attributes:
        z: (B, C, h, w) quantised latents; gradients pass straight through to the latents.
        codes: (B, h * w) int64.
        codebook: Mean squared distance that pulls codes to the latents.
        commitment: The same number, pulling latents to their codes; before its weight.
        latents: (n, C) normalised latents.
        table: (K, C) normalised codebook.
    """

    z: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor
    latents: Tensor
    table: Tensor

    def entropy(self) -> Tensor:
        """Mean entropy of a place minus the entropy of the mean: low when places are decided and codes evenly used."""
        with _float32(self.table.device):
            return entropy_term(squared_distances(self.latents, self.table))

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Its terms of a tokenizer's loss, before their weights; the entropy only where it has one."""
        terms = {"codebook": self.codebook, "commitment": self.commitment}
        return terms | ({"entropy": self.entropy()} if weights.entropy else {})

    @staticmethod
    def figures(found: Sequence[Quantised]) -> dict[str, float]:
        """Perplexity of the codes over batches."""
        uses = torch.bincount(torch.cat([quantised.codes.flatten() for quantised in found]))
        return {"perplexity": perplexity(uses / uses.sum())}


class VectorQuantizer(nn.Module):
    """A codebook of unit vectors, and a record of which codes were used recently.

    Args:
        vocab: Number of codes K.
        channels: Width C of a code.
        history: How many uses are remembered.
    """

    recent: Tensor

    def __init__(self, vocab: int, channels: int, history: int = 65536) -> None:
        super().__init__()
        self.vocab = vocab
        self.embedding = nn.Embedding(vocab, channels)
        with torch.no_grad():
            self.embedding.weight.copy_(
                F.normalize(self.embedding.weight.uniform_(-1 / vocab, 1 / vocab), dim=-1)
            )
        # Integers: a record of codes must survive averaging of weights and storage in half precision.
        self.register_buffer("recent", torch.full((history,), EMPTY, dtype=torch.int32))

    @property
    def table(self) -> Tensor:
        """(K, C) unit vectors, float32."""
        return F.normalize(self.embedding.weight.float(), dim=-1)

    def forward(self, h: Tensor) -> Quantised:
        """Quantise latents (B, C, h, w). In training mode the codes are recorded as used."""
        with _float32(h.device):
            z = F.normalize(h.float().permute(0, 2, 3, 1), dim=-1)
            flat, table = z.reshape(-1, z.shape[-1]), self.table
            with torch.no_grad():
                codes = squared_distances(flat, table).argmin(1)
            if self.training:
                self._remember(codes)
            quantised = F.embedding(codes, table).view(z.shape)
            return Quantised(
                # Kept in evaluation too: the sum differs from the code by a rounding that published pictures have.
                z=(z + (quantised - z).detach()).permute(0, 3, 1, 2),
                codes=codes.view(len(h), -1),
                codebook=F.mse_loss(quantised, z.detach()),
                commitment=F.mse_loss(z, quantised.detach()),
                latents=flat,
                table=table,
            )

    def lookup(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Unit vectors (B, C, h, w), float32, of codes (B, h * w)."""
        return F.embedding(codes, self.table).view(len(codes), *grid, -1).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _remember(self, codes: Tensor) -> None:
        if dist.is_available() and dist.is_initialized():
            parts = [torch.empty_like(codes) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, codes)
            codes = torch.cat(parts)
        codes = codes[-len(self.recent) :].to(self.recent.dtype)
        self.recent.copy_(torch.cat([self.recent[len(codes) :], codes]))

    @torch.no_grad()
    def usage(self) -> Tensor:
        """Share (K,) of each code among the remembered uses; zeros before the first use."""
        uses = torch.bincount(self.recent[self.recent != EMPTY].long(), minlength=self.vocab)
        return uses / uses.sum().clamp(min=1)

    @torch.no_grad()
    def health(self) -> dict[str, float]:
        """Number of codes in use and their perplexity, over the remembered uses."""
        share = self.usage()
        return {"codes_used": float((share > 0).sum()), "codebook_perplexity": perplexity(share)}

    @torch.no_grad()
    def restart(self, latents: Tensor, random: torch.Generator, everything: bool = False) -> int:
        """Move codes that were not used recently onto latents, each with a little noise so that no two are equal.

        Args:
            latents: (B, C, h, w) encoder outputs to draw new codes from.
            random: Decides which, and the noise.
            everything: Move all codes: the first seeding, once the encoder has left its initial state.

        Returns:
            How many codes were moved.
        """
        pool = F.normalize(latents.float().permute(0, 2, 3, 1).reshape(-1, latents.shape[1]), dim=-1)
        dead = (
            torch.ones(self.vocab, dtype=torch.bool, device=pool.device) if everything else self.usage() == 0
        )
        count = int(dead.sum())
        if count:
            # Without repeats while the pool lasts: equal codes would only be told apart by their noise.
            order = torch.randperm(len(pool), generator=random).repeat(-(-count // len(pool)))[:count]
            noise = torch.randn(count, pool.shape[1], generator=random).to(pool.device)
            moved = F.normalize(pool[order.to(pool.device)] + 0.01 * noise, dim=-1)
            self.embedding.weight[dead] = moved.to(self.embedding.weight.dtype)
        if dist.is_available() and dist.is_initialized():  # latents may differ in their last bits
            dist.broadcast(self.embedding.weight.data, 0)
        return count


@contextmanager
def _float32(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32, autocast off where there is one (not on the meta device)."""
    there = torch.amp.is_autocast_available(device.type)
    with full_precision(), torch.autocast(device.type, enabled=False) if there else nullcontext():
        yield


def squared_distances(latents: Tensor, table: Tensor) -> Tensor:
    """Squared distances (n, K), as the sum of three terms that published codes come from: ties break the same way."""
    return latents.square().sum(1, keepdim=True) + table.square().sum(1) - 2 * (latents @ table.T)


def perplexity(share: Tensor) -> float:
    """Exponential of the entropy of shares (K,): how many codes used evenly would do. 0 when nothing was used."""
    return float(torch.exp(torch.special.entr(share).sum())) if share.sum() > 0 else 0.0


def entropy_term(distances: Tensor, temperature: float = 0.01) -> Tensor:
    """Mean entropy of the code distribution of a place, minus the entropy of the mean distribution.

    Args:
        distances: (n, K) squared distances.
        temperature: Of the softmax over codes.
    """
    log_p = (-distances / temperature).log_softmax(-1)
    p = log_p.exp()
    mean = p.mean(0)
    # The small number inside the logarithm is the published one.
    return -(p * log_p).sum(1).mean() + (mean * (mean + 1e-5).log()).sum()
