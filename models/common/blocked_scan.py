"""The selective scan of Mamba-1 in plain PyTorch: exact, fast on a CPU, with a state that goes in and comes out.

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.2. Each channel has a linear
recurrence whose step, input and output vectors depend on the token:

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t,    y_t = h_t C_t

The tokens are taken in blocks of a few steps. What depends on one token alone is computed for a block at once, the
recurrence in place, step by step, and only the state before each block is kept: the backward pass computes the others
anew. Sums of logarithms instead would overflow as soon as a block decays by more than exp(88).

Shapes: R rows, S tokens, T tokens of a block, D channels, N numbers per channel of the state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_NUMBERS = 1 << 18
"""Numbers of a tensor (T, R, N, D) of a block; two or three of these should stay in the cache of a core."""


def blocked_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over tokens, in float32 unless the inputs are float64.

    A token with dt = 0 leaves the state as it is.

    Args:
        x: (R, S, D) inputs.
        dt: (R, S, D) steps, at least 0.
        A: (N, D) rates, negative.
        B: (R, S, N) input vectors.
        C: (R, S, N) output vectors.
        state: (R, N, D) before the first token; None is zero.

    Returns:
        y (R, S, D) in the type of x, and the state (R, N, D) after the last token, in the type of the recurrence.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = x.new_zeros(len(x), *A.shape, dtype=dtype)
    inputs = [part.to(dtype) for part in (x, dt, A, B, C, state)]
    y, last = _Scan.apply(*inputs)
    return y.to(x.dtype), last


def blocked_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over one token.

    Args:
        x: (R, D); the other arguments as those of `blocked_scan`, without the axis of tokens.
        dt: (R, D).
        A: (N, D).
        B: (R, N).
        C: (R, N).
        state: (R, N, D), left as it is.

    Returns:
        y (R, D) in the type of x, and the new state.
    """
    dtype = state.dtype
    step = dt.to(dtype)
    decay = (step[:, None] * A.to(dtype)).exp_()
    state = decay.mul_(state).addcmul_((step * x.to(dtype))[:, None], B.to(dtype)[..., None])
    return (state * C.to(dtype)[..., None]).sum(1).to(x.dtype), state


def block_length(rows: int, numbers: int) -> int:
    """Tokens of a block, for states of so many numbers per row."""
    return min(max(BLOCK_NUMBERS // max(rows * numbers, 1), 4), 64)


class _Scan(torch.autograd.Function):
    """See `blocked_scan`; all tensors have one type."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows, length, _ = x.shape
        size = block_length(rows, A.numel())
        y, decay, h = torch.empty_like(x), *_buffers(2, size, rows, A)
        starts = []
        with torch.autocast(x.device.type, enabled=False):
            for first in range(0, length, size):
                if any(ctx.needs_input_grad):
                    starts.append(state)
                block = _Block.of(first, size, x, dt, B, C)
                a, states = decay[: block.length], h[: block.length]
                block.run(A, state, a, states)
                y[:, first : first + size] = torch.matmul(block.C[:, :, None], states)[:, :, 0].transpose(
                    0, 1
                )
                state = states[-1].clone()
        ctx.save_for_backward(x, dt, A, B, C, *starts)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, B, C, *starts = ctx.saved_tensors
        rows, length, _ = x.shape
        size = block_length(rows, A.numel())
        decay, h, g, product = _buffers(4, size, rows, A)
        grads = [torch.empty_like(part) for part in (x, dt, B, C)]
        grad_A, carry = torch.zeros_like(A), grad_last
        with torch.autocast(x.device.type, enabled=False):
            for first in reversed(range(0, length, size)):
                block = _Block.of(first, size, x, dt, B, C)
                a, states, grad_h, scratch = (buffer[: block.length] for buffer in (decay, h, g, product))
                start = starts.pop()
                inputs = block.run(A, start, a, states)
                gy = grad_y[:, first : first + size].transpose(0, 1)
                torch.mul(block.C[..., None], gy[:, :, None], out=grad_h)
                later = grad_h[-1].add_(carry)
                for one, decay_after in zip(
                    reversed(grad_h.unbind(0)[:-1]), reversed(a.unbind(0)[1:]), strict=True
                ):
                    later = one.addcmul_(decay_after, later)
                carry = a[0] * grad_h[0]
                grad_inputs = torch.matmul(block.B[:, :, None], grad_h)[:, :, 0]
                # Several times as fast as a product of each matrix with a vector.
                grad_B = torch.mul(grad_h, inputs[:, :, None], out=scratch).sum(-1)
                grad_C = torch.mul(states, gy[:, :, None], out=scratch).sum(-1)
                # Of the decays' exponents: gradient of h, times the decay, times the state before.
                exponent = a.mul_(grad_h)
                exponent[0].mul_(start)
                exponent[1:].mul_(states[:-1])
                grad_A += torch.mul(exponent, block.dt[:, :, None], out=scratch).sum((0, 1))
                grad_dt = exponent.mul_(A).sum(2).addcmul_(grad_inputs, block.x)
                for whole, part in zip(grads, (grad_inputs * block.dt, grad_dt, grad_B, grad_C), strict=True):
                    whole[:, first : first + size] = part.transpose(0, 1)
        grad_x, grad_dt, grad_B, grad_C = grads
        return grad_x, grad_dt, grad_A, grad_B, grad_C, carry


class _Block:
    """Views of the tokens of a block, (T, R, ...)."""

    def __init__(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> None:
        self.x, self.dt, self.B, self.C, self.length = x, dt, B, C, len(x)

    @classmethod
    def of(cls, first: int, size: int, *parts: Tensor) -> _Block:
        """The tokens from `first` on, at most `size`, of tensors (R, S, ...)."""
        return cls(*(part[:, first : first + size].transpose(0, 1) for part in parts))

    def run(self, A: Tensor, state: Tensor, decay: Tensor, states: Tensor) -> Tensor:
        """Fill in decays and states (T, R, N, D) from the state before the block, and return dt x (T, R, D)."""
        torch.mul(self.dt[:, :, None], A, out=decay).exp_()
        inputs = self.dt * self.x
        torch.mul(inputs[:, :, None], self.B[..., None], out=states)
        for a, h in zip(decay.unbind(0), states.unbind(0), strict=True):
            state = h.addcmul_(a, state)
        return inputs


def _buffers(count: int, size: int, rows: int, A: Tensor) -> list[Tensor]:
    return [A.new_empty(size, rows, *A.shape) for _ in range(count)]
