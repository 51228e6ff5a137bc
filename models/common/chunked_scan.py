"""The scan of Mamba-2 as products of matrices, chunk by chunk, with a state that goes in and comes out.

"Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality", 2024,
section 6. A head decays as a whole, so that inside a chunk the recurrence is attention with decaying weights:

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T,    y_t = h_t C_t

Shapes: R rows, S tokens, K chunks of T tokens, H heads of P channels, G groups of heads, N numbers per channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
"""Tokens of a chunk: products inside one cost more the longer it is, those between chunks the more there are."""


def chunked_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over tokens, in float32 unless the inputs are float64.

    A token with dt = 0 leaves the state as it is.

    Args:
        x: (R, S, H, P) inputs.
        dt: (R, S, H) steps, at least 0.
        A: (H,) rates, negative.
        B: (R, S, G, N) input vectors, each for H / G heads that follow one another.
        C: (R, S, G, N) output vectors.
        state: (R, H, P, N) before the first token; None is zero.
        chunk: Tokens of a chunk.

    Returns:
        y (R, S, H, P) in the type of x, and the state (R, H, P, N) after the last token, in the type of the recurrence.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        inputs = [part.to(dtype) for part in (x, dt, A, B, C)]
        y, state = _scan(*inputs, None if state is None else state.to(dtype), chunk)
    return y.to(x.dtype), state


def chunked_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over one token.

    Args:
        x: (R, H, P); the other arguments as those of `chunked_scan`, without the axis of tokens.
        dt: (R, H).
        A: (H,).
        B: (R, G, N).
        C: (R, G, N).
        state: (R, H, P, N), left as it is.

    Returns:
        y (R, H, P) in the type of x, and the new state.
    """
    dtype, heads = state.dtype, x.shape[1] // B.shape[1]
    step = dt.to(dtype)
    decay, inputs = (step * A.to(dtype)).exp(), x.to(dtype) * step[..., None]
    B, C = (part.to(dtype).repeat_interleave(heads, 1)[:, :, None] for part in (B, C))
    state = (state * decay[..., None, None]).addcmul_(inputs[..., None], B)
    return (state * C).sum(-1).to(x.dtype), state


def _scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    rows, length, heads, width = x.shape
    groups = B.shape[2]
    chunk = min(chunk, max(length, 1))
    pad = -length % chunk
    x, dt, B, C = (F.pad(part, (*[0, 0] * (part.dim() - 2), 0, pad)) for part in (x, dt, B, C))
    # (R, K, G, T, N), and heads (R, K, G, H / G, T, ...)
    B, C = (part.unflatten(1, (-1, chunk)).transpose(2, 3) for part in (B, C))
    inputs = (
        (x * dt[..., None]).unflatten(1, (-1, chunk)).unflatten(3, (groups, -1)).permute(0, 1, 3, 4, 2, 5)
    )
    exponent = _summed(dt * A, chunk).unflatten(2, (groups, -1))
    total = exponent[..., -1:]
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    # Masked before the exponential, which may overflow above the diagonal.
    between = (exponent[..., :, None] - exponent[..., None, :]).masked_fill(~causal, -torch.inf)
    weights = between.to(x.dtype).exp() * (C @ B.transpose(-1, -2))[:, :, :, None]
    y = weights @ inputs
    to_end = inputs * (total - exponent).to(x.dtype).exp()[..., None]
    # Heads of a group share B and C: one product for all of their channels.
    added = (to_end.transpose(-1, -2).flatten(3, 4) @ B).unflatten(3, (-1, width)).flatten(2, 3)
    before, state = _carry(added, total.to(x.dtype).exp().flatten(2, 3), state)
    seen = C @ before.unflatten(2, (groups, -1)).flatten(3, 4).transpose(-1, -2)
    seen = seen.unflatten(4, (-1, width)).transpose(3, 4)
    y = y + seen * exponent.to(x.dtype).exp()[..., None]
    return y.permute(0, 1, 4, 2, 3, 5).reshape(rows, -1, heads, width)[:, :length], state


def _summed(exponent: Tensor, chunk: int) -> Tensor:
    """Sum exponents (R, S, H) from the start of each chunk on, (R, K, H, T).

    In float64 where there is one: differences of large sums would be off by more than what neighboring tokens decay.
    """
    wide = exponent if exponent.device.type == "mps" else exponent.double()
    return wide.unflatten(1, (-1, chunk)).transpose(2, 3).cumsum(-1)


def _carry(added: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Carry the state through all chunks.

    Args:
        added: (R, K, H, P, N) what each chunk adds.
        decay: (R, K, H, 1) what each chunk leaves of the state before it.
        state: (R, H, P, N) before the first chunk; None is zero.

    Returns:
        States before each chunk (R, K, H, P, N), and the state after the last one.
    """
    state = torch.zeros_like(added[:, 0]) if state is None else state
    before = []
    for more, share in zip(added.unbind(1), decay[..., None].unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(more, share, state)
    return torch.stack(before, 1), state
