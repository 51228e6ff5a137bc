"""The short causal convolution of state-space models: each channel sees itself at the last few tokens.

Shifted products instead of `nn.Conv1d`, whose backward pass over separate channels is several times as slow on a CPU.

Shapes: R rows, S tokens, D channels, K tokens of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, past: Tensor | None = None) -> Tensor:
    """Convolve each channel with its kernel; before the first token there are zeros, or what came before.

    Args:
        x: (R, S, D).
        weight: (D, 1, K), the last column for the token itself.
        bias: (D,).
        past: (R, K - 1, D) inputs before the first token; None is zero.

    Returns:
        (R, S, D).
    """
    if past is None:
        past = x.new_zeros(len(x), weight.shape[-1] - 1, x.shape[2])
    return _Convolution.apply(torch.cat([past.to(x.dtype), x], 1), weight[:, 0].to(x.dtype), bias.to(x.dtype))


class _Convolution(torch.autograd.Function):
    """Of inputs (R, K - 1 + S, D), kernels (D, K) and biases (D,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        length, columns = x.shape[1] - weight.shape[1] + 1, weight.t().contiguous()
        y = torch.addcmul(bias, x[:, :length], columns[0])
        for k in range(1, len(columns)):
            y.addcmul_(x[:, k : k + length], columns[k])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        length, columns = grad.shape[1], weight.t().contiguous()
        grad_x, grad_columns = torch.zeros_like(x), torch.empty_like(columns)
        for k, column in enumerate(columns):
            grad_x[:, k : k + length].addcmul_(grad, column)
            grad_columns[k] = (grad * x[:, k : k + length]).sum((0, 1))
        return grad_x, grad_columns.t(), grad.sum((0, 1))
