"""The contract of quantizers: vectors to codes and back, straight-through gradients, a record of recently used codes.

Shapes: ... any leading axes, C channels of a vector, Q codes of a vector (residual quantizers), K codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arzoo.base.runtime import full_precision
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.bottleneck import Bottleneck

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig

EMPTY = -1


@dataclass
class Quantization(Bottleneck):
    """Result of a quantization.

    Attributes:
        vectors: (..., C) float32; gradients pass straight through to the input.
        codes: (...) or (..., Q) int64.
        losses: Unweighted terms of the training loss, keyed by the name of their weight.
    """

    vectors: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Unweighted loss terms."""
        return self.losses

    @staticmethod
    def figures(bottlenecks: Iterable[Quantization]) -> dict[str, float]:
        """Perplexity of the codes over all batches and levels together."""
        uses = torch.zeros(0, dtype=torch.long)
        for quantized in bottlenecks:
            more = torch.bincount(quantized.codes.flatten().cpu(), minlength=len(uses))
            more[: len(uses)] += uses
            uses = more
        return {"perplexity": perplexity(uses / uses.sum())}


class Quantizer(nn.Module):
    """Vectors to codes and back, with a record of which codes were used recently.

    Args:
        vocab: Number of codes K.
        channels: Width C of a vector.
        history: Number of uses that the record holds.
        stored: Whether checkpoints contain the record.
    """

    recent: Tensor

    def __init__(self, vocab: int, channels: int, history: int = 65536, stored: bool = False) -> None:
        super().__init__()
        self.vocab, self.channels = vocab, channels
        # Integers: a record of codes must survive averaging of weights and storage in half precision.
        record = torch.full((history,), EMPTY, dtype=torch.int32)
        self.register_buffer("recent", record, persistent=stored)

    @property
    def stored_codes(self) -> Tensor:
        """The tensor that holds the codes, (..., C), of quantizers that learn them."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Quantization:
        """Quantize (..., C). In training mode the codes are recorded as used."""
        raise NotImplementedError

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., C), float32, of codes (...)."""
        raise NotImplementedError

    def vectors_of(self, tokens: Tokens) -> Tensor:
        """Vectors (B, N, C), float32, of a canvas; positions that are not known have the mean of all codes.

        Padding has any vector, since it has no effect.
        """
        vectors = self.lookup(tokens.values)
        if bool((tokens.known | ~tokens.kept).all()):
            return vectors
        codes = torch.arange(self.vocab, device=vectors.device)
        codes = codes.view(-1, *[1] * (tokens.values.dim() - 2)).expand(-1, *tokens.values.shape[2:])
        return torch.where(tokens.known[..., None], vectors, self.lookup(codes).mean(0))

    @torch.no_grad()
    def remember(self, codes: Tensor) -> None:
        """Record codes (n,), of all processes, as used."""
        if dist.is_available() and dist.is_initialized():
            parts = [torch.empty_like(codes) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, codes)
            codes = torch.cat(parts)
        codes = codes[-len(self.recent) :].to(self.recent.dtype)
        self.recent.copy_(torch.cat([self.recent[len(codes) :], codes]))

    @torch.no_grad()
    def usage(self) -> Tensor:
        """Share (K,) of each code among the recorded uses; zeros before the first use."""
        uses = torch.bincount(self.recent[self.recent != EMPTY].long(), minlength=self.vocab)
        return uses / uses.sum().clamp(min=1)

    @torch.no_grad()
    def health(self) -> dict[str, float]:
        """Number of codes in use and their perplexity, over the recorded uses."""
        share = self.usage()
        return {"codes_used": float((share > 0).sum()), "codebook_perplexity": perplexity(share)}


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute in full float32, without autocast: a rounding error can change a code."""
    # The meta device has no autocast to switch off.
    autocasts = torch.amp.is_autocast_available(device.type)
    with full_precision(), torch.autocast(device.type, enabled=False) if autocasts else nullcontext():
        yield


def perplexity(share: Tensor) -> float:
    """Exponential of the entropy of shares (K,): the number of evenly used codes it equals. 0 when none was used."""
    return float(torch.exp(torch.special.entr(share).sum())) if share.sum() > 0 else 0.0
