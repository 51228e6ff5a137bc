"""Noise of decoders in the published search ("(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026).

There it is drawn by torch, seeded with the number of the prompt: the same for all candidates of a picture, or for best
of N, whose noise follows from no seed there, another one for every picture that is decoded. By default all pictures of
arzoo start from the noise of seed 0, so that scores differ by tokens alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arzoo.base.runtime import sample_seed
from arzoo.core.draws import Draws
from arzoo.samplers.search.algorithm import Search


class PublishedNoise(Draws):
    """Normal numbers of torch on a CPU, from a generator per sample."""

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers; the first entry of the shape is the batch."""
        rows = [torch.randn(*shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in self.seeds]
        return torch.stack(rows).to(dtype)

    def select(self, index: Sequence[int], seeds: Sequence[int] | None = None) -> PublishedNoise:
        """Noise of some samples."""
        return PublishedNoise(seeds if seeds is not None else [self.seeds[i] for i in index])


def noise_of(algorithm: Search, number: int) -> Callable[[int], Draws | None]:
    """Return what gives the noise of so many pictures that a search decodes; None is the usual one.

    Args:
        algorithm: The search.
        number: Number of the prompt.
    """
    decoded = itertools.count()

    def noise(count: int) -> Draws | None:
        if not algorithm.published:
            return None
        if not algorithm.own_noise:
            return PublishedNoise([number] * count)
        return PublishedNoise([sample_seed(number, next(decoded)) for _ in range(count)])

    return noise
