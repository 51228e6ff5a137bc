"""Drafts of vectors: keep a draw of one normal law as a draw of another, or replace it, with the law of the other.

"Accelerated Diffusion Models via Speculative Sampling" (2025), section 3. The density of what a diffusion head draws is
not known, but that of each of its denoising steps is: a normal law with independent channels.

Shapes: B samples, m positions, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arzoo.core.draws import Draws

TRIES = 2**20
"""Draws after which `residual` gives up. A draft needs so many with a probability below 4e-7, whatever the laws."""


class Normal(NamedTuple):
    """Normal laws with independent channels.

    Attributes:
        mean: (..., C).
        deviation: (..., C), positive.
    """

    mean: Tensor
    deviation: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Draw with standard normal noise (..., C)."""
        return self.mean + self.deviation * noise

    def select(self, index: Any) -> Normal:
        """The laws at an index of the leading dimensions."""
        return Normal(self.mean[index], self.deviation[index])

    @staticmethod
    def stack(laws: Sequence[Normal]) -> Normal:
        """Laws (n, k, C) of k laws of n vectors each."""
        mean, deviation = (torch.stack(part, 1) for part in zip(*laws, strict=True))
        return Normal(mean, deviation)


def log_ratio(x: Tensor, target: Normal, draft: Normal) -> Tensor:
    """Log of the ratio of densities, target over draft, of vectors x (..., C); float64 (...)."""

    def log_density(law: Normal) -> Tensor:
        deviation = law.deviation.double()
        return -0.5 * ((x.double() - law.mean) / deviation).square() - deviation.log()

    return (log_density(target) - log_density(draft)).sum(-1)


def kept(x: Tensor, target: Normal, draft: Normal, level: Tensor) -> Tensor:
    """Whether drafts x (..., C) are kept, (...) bool, by uniform numbers (...): with probability min(1, p / q)."""
    return level.log() < log_ratio(x, target, draft)


def residual(x: Tensor, target: Normal, draft: Normal, seeds: Sequence[int]) -> Tensor:
    """Replace drafts that were not kept, so that kept and replaced ones together have the target's law.

    Where both laws have the same deviations, the noise of the draft is reflected at the plane between the means
    ("reflection coupling"). Where they differ, draws from the target are kept with probability (1 - q / p)+, which
    takes about as many as there are drafts for one that is not kept.

    Args:
        x: (n, C) drafts.
        target: Laws of n vectors.
        draft: Laws that the drafts were drawn from.
        seeds: One per vector, used for nothing else.
    """
    apart = (draft.mean - target.mean) / target.deviation
    noise = (x - draft.mean) / draft.deviation
    way = apart / apart.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    out = target.at(noise - 2 * (noise * way).sum(-1, keepdim=True) * way)
    unlike = (target.deviation != draft.deviation).any(-1)
    # A network that diverges must not keep it trying.
    todo = (unlike & out.isfinite().all(-1)).nonzero()[:, 0]
    tries, chunk = 0, 8
    while len(todo) and tries < TRIES:
        own = Draws([seeds[row] for row in todo.tolist()], step=tries)
        noise = own.normal((len(todo), chunk, x.shape[-1])).to(x)
        level = own.uniform((len(todo), chunk)).to(x.device)
        laws = [law.select((todo, None)) for law in (target, draft)]
        tried = laws[0].at(noise)
        good = level < -torch.expm1(-log_ratio(tried, *laws))
        first = good.int().argmax(1)
        out[todo] = tried[torch.arange(len(todo), device=x.device), first]
        todo = todo[~good.any(1)]
        tries, chunk = tries + chunk, min(2 * chunk, 2**14)
    return out
