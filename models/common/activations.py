"""Activations that round a number alike at every place of a tensor, so that a picture does not depend on its batch.

On a CPU torch computes most of a tensor by vector instructions, but the last numbers of it, or of a thread's share of
it, one by one, which rounds differently. Exponentials and the four operations round alike both ways; logistic functions
and products of complex numbers do not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VECTOR = 32
"""Largest count of numbers that torch computes at once: two registers of AVX-512."""


def silu(x: Tensor) -> Tensor:
    """Return x times its logistic function ("Gaussian Error Linear Units", 2016); x (..., D)."""
    if _alike(x):
        return F.silu(x)
    return x / x.neg().exp_().add_(1)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), and x itself above 20; x (..., D)."""
    if _alike(x):
        return F.softplus(x)
    return torch.where(x > 20, x, x.clamp(max=20).exp_().log1p_())


def gelu(x: Tensor) -> Tensor:
    """Return x times the normal distribution function of x (same paper); x (..., D)."""
    # oneDNN computes only contiguous tensors, and whether half of a tensor is contiguous depends on the number of rows.
    return F.gelu(x.contiguous()) if _exact(x) else F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU (same paper), approximated by a hyperbolic tangent; x (..., D)."""
    if _alike(x):
        return F.gelu(x, approximate="tanh")
    return x / (x * (1 + 0.044715 * x * x)).mul_(-math.sqrt(8 / math.pi)).exp_().add_(1)


def even_shares(count: int, unit: int = 1) -> bool:
    """Return whether one or two threads split rows of `count` numbers at multiples of `unit`, however many rows."""
    threads = torch.get_num_threads()  # more threads may split a row anywhere
    return threads <= 2 and count % (threads * unit) == 0


def _exact(x: Tensor) -> bool:
    """Return whether reproducible rounding matters: float32 on a CPU without gradients."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad


def _alike(x: Tensor) -> bool:
    """Return whether torch's own function may be used."""
    return not _exact(x) or even_shares(x.shape[-1], VECTOR)
