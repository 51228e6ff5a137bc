"""Activations that round a number alike wherever it lies in its tensor, so that a picture ignores the batch.

On a CPU torch computes most of a tensor by vector instructions and the last numbers of it, or of a thread's share of
it, one by one, which rounds otherwise. Exponentials and the four operations round alike both ways; logistic functions
and products of complex numbers do not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VECTOR = 32
"""Numbers that torch computes at once, at most: two registers of AVX-512."""


def silu(x: Tensor) -> Tensor:
    """x times its logistic function ("Gaussian Error Linear Units", 2016); x (..., D)."""
    if _alike(x):
        return F.silu(x)
    return x / x.neg().exp_().add_(1)


def gelu(x: Tensor) -> Tensor:
    """x times the distribution function of a normal number (likewise); x (..., D)."""
    # Numbers that lie in a row take oneDNN's function, others another: a half of one row does, one of several does not.
    return F.gelu(x.contiguous()) if _exact(x) else F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU (likewise) approximated by a hyperbolic tangent; x (..., D)."""
    if _alike(x):
        return F.gelu(x, approximate="tanh")
    return x / (x * (1 + 0.044715 * x * x)).mul_(-math.sqrt(8 / math.pi)).exp_().add_(1)


def even_shares(count: int, unit: int = 1) -> bool:
    """Whether one or two threads that share rows of `count` numbers meet at a multiple of `unit`, however many rows."""
    threads = torch.get_num_threads()  # more of them meet anywhere
    return threads <= 2 and count % (threads * unit) == 0


def _exact(x: Tensor) -> bool:
    """Whether the function matters more than its gradient."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad


def _alike(x: Tensor) -> bool:
    """Whether torch's own function will do."""
    return not _exact(x) or even_shares(x.shape[-1], VECTOR)
