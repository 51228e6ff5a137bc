"""Attention in bfloat16 training on a CPU, with two products and a softmax where torch would use its fused kernel.

The backward pass of torch's fused kernel on CPUs is slow in bfloat16 (2.14): for 32 samples, 4 heads of 32 and 129
tokens it takes 59 ms on one thread of an AMD processor, the products 7 ms; forward they take 8 and 6 ms. In float32 the
fused kernel is the faster one. Only roundings differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PlainAttention(TorchFunctionMode):
    """Replaces calls of `F.scaled_dot_product_attention` that need gradients in bfloat16 on a CPU.

    Calls with dropout, a causal flag, grouped heads or a mask of numbers stay as they are.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        named = named or {}
        if function is F.scaled_dot_product_attention and _fits(arguments, named):
            return plain_attention(*arguments, **named)
        return function(*arguments, **named)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Attention (..., S, V) of queries (..., S, D) to keys (..., K, D) and values (..., K, V).

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        attn_mask: Bool, True where a query may attend; broadcast to (..., S, K).
        scale: Factor of the products; by default D^-0.5.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    if attn_mask is None:
        return _shares(scores).to(value.dtype) @ value
    hidden = ~attn_mask
    # Not minus infinity: attention to no key at all is zero, as in torch, and has a gradient.
    shares = _shares(scores.masked_fill(hidden, torch.finfo(scores.dtype).min)).masked_fill(hidden, 0.0)
    return shares.to(value.dtype) @ value


def _shares(scores: Tensor) -> Tensor:
    return scores.softmax(-1, dtype=torch.float32)


def _fits(arguments: Sequence[Any], named: Mapping[str, Any]) -> bool:
    query = arguments[0] if arguments else None
    mask = arguments[3] if len(arguments) > 3 else named.get("attn_mask")
    return (
        (mask is None or mask.dtype == torch.bool)
        and isinstance(query, Tensor)
        and query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and torch.is_grad_enabled()
        and query.requires_grad
        and 3 <= len(arguments) <= 4
        and named.keys() <= {"attn_mask", "scale"}
    )
