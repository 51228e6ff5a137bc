"""Residual vector quantization: every level quantizes the remainder of the levels before it.

"Autoregressive Image Generation using Residual Quantization", 2022, section 3.1; levels are dropped at random in
training as in "SoundStream", 2021, section III-C, so that the first q levels can be decoded for any q.

Shapes: ... any leading axes, C channels, Q levels, K codes of a level, n vectors.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.quantizers.averages import CodeAverages
from arzoo.tokenizers.quantizers.base import EMPTY, Quantization, Quantizer, exact, perplexity

NOISE = 0.01
"""Deviation of what is added to a moved code, so that no two are equal, relative to that of the vectors."""


class ResidualVQ(Quantizer):
    """One codebook per level, or one for all; the code is the nearest in squared distance.

    Args:
        vocab: Codes K of a level.
        channels: Width C.
        levels: Number of levels Q.
        shared: Use one codebook for all levels.
        dropout: Probability that a vector in training keeps only its first q levels, q uniform in 1 to Q.
        decay: If not 0, codes are running averages of what they quantize, see `CodeAverages`: `end_step` updates them,
            and they have no gradient.

    Raises:
        ArzooError: `levels` is below 1, `dropout` is outside [0, 1], or `decay` outside [0, 1).
    """

    codebooks: Tensor

    def __init__(
        self,
        vocab: int,
        channels: int,
        levels: int,
        shared: bool = False,
        dropout: float = 0.0,
        decay: float = 0.0,
    ) -> None:
        if levels < 1 or not 0 <= dropout <= 1 or not 0 <= decay < 1:
            raise ArzooError(
                "residual VQ needs at least 1 level, a dropout from 0 to 1 and a decay from 0 to below 1, got "
                f"{levels} levels, dropout {dropout}, decay {decay}"
            )
        super().__init__(vocab, channels, stored=True)
        self.levels, self.dropout = levels, dropout
        codes = torch.empty(1 if shared else levels, vocab, channels).normal_(0, 0.1)
        self.averages = CodeAverages(codes, decay) if decay else None
        if decay:
            self.register_buffer("codebooks", codes)
        else:
            self.codebooks = nn.Parameter(codes)

    @property
    def stored_codes(self) -> Tensor:
        """The tensor that holds the codes."""
        return self.codebooks

    def forward(self, z: Tensor, keep: Tensor | None = None, share: Tensor | None = None) -> Quantization:
        """Quantize (..., C).

        The commitment and codebook losses compare the sum after every kept level with the vector (RQ-VAE, equation 7);
        they are means over the kept levels of a vector, then over vectors.

        Args:
            z: Vectors.
            keep: (...) number of levels, 1 to Q, that each vector keeps; by default all, or as `dropout` says in
                training, see `levels_kept`.
            share: (...) share of each vector in the losses, which add up to 1; by default all have the same.
        """
        with exact(z.device):
            z = z.float()
            if keep is None:
                # One normal number a vector, which training makes a function of the sample.
                keep = self.levels_kept(torch.randn_like(z[..., 0]) if self._drops else z[..., 0])
            total, codes = torch.zeros_like(z), []
            commitment, codebook = z.new_zeros(()), z.new_zeros(())
            for level in range(self.levels):
                table, kept = self.table(level), level < keep
                with torch.no_grad():
                    rest = z - total
                    index = nearest(rest.reshape(-1, z.shape[-1]), table).view(z.shape[:-1])
                    if self.training and self.averages is not None:
                        self.averages.collect(self.book(level), index[kept], rest[kept])
                codes.append(index)
                total = total + F.embedding(index, table) * kept[..., None]
                codebook = codebook + _mean((total - z.detach()).square().mean(-1) * kept / keep, share)
                commitment = commitment + _mean((z - total.detach()).square().mean(-1) * kept / keep, share)
            stacked = torch.stack(codes, -1)
            if self.training:
                books = torch.arange(self.levels, device=z.device) % len(self.codebooks)
                self.remember((stacked + self.vocab * books).flatten())
            losses = {"commitment": commitment}
            if self.averages is None:
                losses["codebook"] = codebook
            return Quantization(z + (total - z).detach(), stacked, losses)

    def book(self, level: int) -> int:
        """Number of the codebook of a level."""
        return level % len(self.codebooks)

    def table(self, level: int) -> Tensor:
        """Codebook (K, C) of a level."""
        return self.codebooks[self.book(level)].float()

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

    @property
    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    def levels_kept(self, normal: Tensor) -> Tensor:
        """Number of levels (...) that vectors keep by `dropout` in training, from a normal number (...) each."""
        keep = torch.full(normal.shape, self.levels, device=normal.device)
        if not self._drops:
            return keep
        uniform = torch.special.ndtr(normal) / self.dropout
        return torch.where(uniform < 1, (uniform * self.levels).long() + 1, keep).clamp(max=self.levels)

    @torch.no_grad()
    def usage(self) -> Tensor:
        """Share (codebooks, K) of each code among the recorded uses of its codebook; zeros before the first use."""
        used = self.recent[self.recent != EMPTY].long()
        uses = torch.bincount(used, minlength=self.codebooks[..., 0].numel()).view(-1, self.vocab)
        return uses / uses.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def health(self) -> dict[str, float]:
        """Number of codes in use and their perplexity, over the recorded uses, as means over codebooks."""
        shares = self.usage()
        perplexities = [perplexity(share) for share in shares]
        return {
            "codes_used": float((shares > 0).sum()) / len(shares),
            "codebook_perplexity": sum(perplexities) / len(perplexities),
        }

    @torch.no_grad()
    def end_step(self) -> None:
        """Update codes that are running averages; for others, nothing."""
        if self.averages is not None and (codes := self.averages.update()) is not None:
            self.codebooks.copy_(codes)

    @torch.no_grad()
    def restart(self, latents: Tensor, rng: torch.Generator, everything: bool = False) -> list[int]:
        """Move codes that were not used recently onto what their level quantizes, each with a little noise.

        A codebook that levels share gives each of them an equal part of these codes.

        Args:
            latents: (..., C) encoder outputs to draw new codes from.
            rng: Randomness of the choice and of the noise.
            everything: Move all codes: the first seeding, once the encoder has left its initial state.

        Returns:
            The codes that were moved, counted through all codebooks.
        """
        rest = latents.float().reshape(-1, self.channels)
        unused = (
            torch.ones_like(self.codebooks[..., 0], dtype=torch.bool) if everything else self.usage() == 0
        )
        ready = ~unused
        for level, codes in enumerate(self._shares(unused)):
            book = self.book(level)
            if len(codes):
                self._move(book, codes, rest, rng)
                ready[book, codes] = True
            table = self.table(level)[ready[book]]
            if len(table):  # a level whose share of a few codes is empty may have none yet
                rest = rest - table[nearest(rest, table)]
        if dist.is_available() and dist.is_initialized():  # latents may differ in their last bits
            for tensor in (self.codebooks.data, *(self.averages.buffers() if self.averages else ())):
                dist.broadcast(tensor, 0)
        return torch.nonzero(unused.flatten())[:, 0].tolist()

    def _shares(self, unused: Tensor) -> Iterator[Tensor]:
        """Yield the codes that each level moves, of (codebooks, K) that are not used."""
        sharing = self.levels // len(self.codebooks)
        shares = [torch.nonzero(book)[:, 0].tensor_split(sharing) for book in unused]
        for level in range(self.levels):
            yield shares[self.book(level)][level // len(self.codebooks)]

    def _move(self, book: int, codes: Tensor, pool: Tensor, rng: torch.Generator) -> None:
        """Move codes of a codebook onto vectors (n, C) of a pool, without repeats while it lasts."""
        order = torch.randperm(len(pool), generator=rng).repeat(-(-len(codes) // len(pool)))[: len(codes)]
        noise = torch.randn(len(codes), self.channels, generator=rng).to(pool.device)
        moved = pool[order.to(pool.device)] + NOISE * pool.std() * noise
        self.codebooks[book, codes] = moved.to(self.codebooks.dtype)
        if self.averages is not None:
            self.averages.move(book, codes, moved)


def _mean(values: Tensor, share: Tensor | None) -> Tensor:
    return values.mean() if share is None else (values * share).sum()


def nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """Index (n,) of the nearest row of a table (K, C) for each of the vectors (n, C), float32.

    Both are centered on the table's mean first: |v|^2 - 2 v t + |t|^2 loses digits where norms are large compared to
    distances.
    """
    centre = table.mean(0)
    vectors, table = vectors - centre, table - centre
    return (table.square().sum(1) - 2 * vectors @ table.T).argmin(1)
