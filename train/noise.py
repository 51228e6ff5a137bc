"""Randomness inside networks in training, as a function of the samples rather than of their micro-batch.

Layers draw from torch's global random state, row after row, so the dropout of a sample would depend on the number of
samples computed with it. While `SampleNoise` is entered, dropout, dropout of attention weights and `randn_like` draw
from the seed of each sample. Other random functions are not replaced, nor is anything inside compiled modules.

Shapes: B samples, the first dimension of the dropped tensor; n numbers per sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from arzoo.core.draws import Draws

_LANES = 4
"""Numbers of 16 bits in one hash of 64 bits."""
_LEVELS = 1 << 16
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)


_entered: list[SampleNoise] = []


class SampleNoise(TorchFunctionMode):
    """A mode in which layers draw from the seeds of the samples.

    A number from torch's global random state tells calls apart; the engine seeds that state alike for all micro-batches
    of a step. When a layer is recomputed for its gradient, torch restores that state but not this mode: see `again`.

    Args:
        draws: Seeds of the samples.
    """

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self.seeds = draws.seeds
        self.replacements: dict[Any, Callable[..., Tensor]] = {
            F.dropout: self._dropout,
            torch.randn_like: self._randn_like,
            F.scaled_dot_product_attention: self._attention,
        }

    def __enter__(self) -> SampleNoise:
        _entered.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _entered.pop()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the random functions for tensors with one row per sample."""
        replacement = self.replacements.get(function)
        if replacement is None or not arguments or len(arguments[0]) != len(self.seeds):
            return function(*arguments, **(named or {}))
        return replacement(*arguments, **(named or {}))

    def _draws(self) -> Draws:
        """Randomness of the next call."""
        return Draws(self.seeds, int(torch.randint(1 << 62, ())))

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        share = kept(self._draws(), x.shape, p, x.device) / (1 - p)
        return x.mul_(share) if inplace else x * share.to(x.dtype)

    def _randn_like(self, x: Tensor, **named: Any) -> Tensor:
        return self._draws().normal(x.shape).to(x)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, **named: Any,
    ) -> Tensor:  # fmt: skip
        """Compute attention with dropout of weights; the fused kernels draw their own random numbers."""
        if not dropout_p or is_causal or named:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **named
            )
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._dropout(scores.softmax(-1), dropout_p) @ value


def of_rows(rows: Sequence[int]) -> AbstractContextManager[Any]:
    """Return a context for some of the samples of a micro-batch, whose layers draw from their seeds as for all."""
    return SampleNoise(Draws([_entered[-1].seeds[row] for row in rows])) if _entered else nullcontext()


def again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return contexts for `torch.utils.checkpoint` in which recomputation repeats the same random numbers."""
    return nullcontext(), _entered[-1] if _entered else nullcontext()


def kept(draws: Draws, shape: Sequence[int], p: float, device: torch.device) -> Tensor:
    """Draw a mask (B, ...) of ones for kept and zeros for dropped elements; `p` is rounded to multiples of 2^-16.

    The numbers are hashes of a counter, computed on the device: drawing them on the CPU for every activation would be
    too slow.
    """
    keys = draws.integers((len(draws.seeds), 1), 1 << 62).to(device)
    count = math.prod(shape[1:])
    x = _hash(keys + torch.arange(-(-count // _LANES), device=device) * _GOLDEN)
    numbers = x.view(torch.int16)[:, :count]
    return (numbers >= round(p * _LEVELS) - _LEVELS // 2).view(*shape)


def _hash(x: Tensor) -> Tensor:
    """The output function of SplitMix64 on int64, in place; see `arzoo.core.draws`."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        x.bitwise_xor_((x >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(multiplier)
    return x.bitwise_xor_((x >> 31).bitwise_and_((1 << 33) - 1))
