"""Filters of a categorical distribution: temperature, top-k, top-p. No full sort of the vocabulary.

They behave as the published samplers: temperature comes first, top-k keeps ties with the k-th logit, top-p keeps the
first code that crosses the threshold (and its ties, which the published sort breaks by index).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arzoo.core.control import Settings
from arzoo.samplers import large_vocabulary


def top_k_(logits: Tensor, k: int) -> Tensor:
    """Mask all but the k largest logits (ties with the k-th stay), in place."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill_(logits < kth, -math.inf)


def top_p_(probs: Tensor, p: float) -> Tensor:
    """Zero all but the smallest set of most likely codes whose mass exceeds p, in place.

    A code stays if the mass of all more likely codes is at most p. The bit patterns of non-negative floats are ordered
    like the floats, so a bisection over the 31 bits finds the exact threshold: 31 masked sums instead of a sort.
    """
    bits = probs.float().view(torch.int32)
    low = torch.full_like(bits[..., :1], -1)
    high = torch.full_like(low, 0x3F800000)  # the bits of 1.0
    for _ in range(31):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        mass = torch.where(bits > middle, probs, 0.0).sum(-1, keepdim=True)
        above = mass > p
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    # `high` is the smallest pattern with a mass of at most p above it; the code with the next lower value crosses p.
    return probs.masked_fill_(bits < high, 0.0)


def probabilities(logits: Tensor, settings: Settings) -> Tensor:
    """Filtered distribution.

    Args:
        logits: (..., V); overwritten.
        settings: Temperature, top-k and top-p.

    Returns:
        (..., V), zero outside the filters, in the ratios of the softmax; it need not sum to 1.
    """
    if settings.temperature != 1:
        logits = logits.div_(max(settings.temperature, 1e-5))
    if (settings.top_k or settings.top_p < 1) and large_vocabulary.pays(logits):
        return large_vocabulary.filter_(logits, settings.top_k or logits.shape[-1], settings.top_p)
    if 0 < settings.top_k < logits.shape[-1]:
        logits = top_k_(logits, settings.top_k)
    probs = logits.softmax(-1)
    return probs if settings.top_p >= 1 else top_p_(probs, settings.top_p)


def log_probabilities(logits: Tensor, settings: Settings) -> Tensor:
    """Logarithm of the filtered distribution, normalized; of the plain softmax if the settings are greedy.

    Args:
        logits: (..., V); overwritten.
        settings: Temperature, top-k and top-p.
    """
    if settings.greedy:
        return logits.log_softmax(-1)
    probs = probabilities(logits, settings)
    if settings.top_k or settings.top_p < 1:
        probs = probs / probs.sum(-1, keepdim=True)
    return probs.log()
