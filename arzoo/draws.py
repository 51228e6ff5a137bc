"""Draws: all randomness of a run, as a function of (sample seed, step, call, element).

A counter-based generator (SplitMix64, "Fast Splittable Pseudorandom Number Generators", 2014, section 5)
needs no generator
object per sample: a draw is vectorised over the batch, a sample depends on its own seed only, and a changed number of
draws in one step does not move those of the next. Numbers are made on the CPU and moved, so they are equal on every
device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from arzoo.errors import ArzooError


def _signed(value: int) -> int:
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value


_MIX1, _MIX2, _GOLDEN = (_signed(c) for c in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of int64, which torch shifts arithmetically."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The output function of SplitMix64, a bijection of 64-bit integers."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


class Draws:
    """Randomness of a batch.

    Args:
        seeds: One integer a sample.
        step: The step of the plan that draws.

    Example:
        >>> Draws([5, 6]).at(3).uniform((2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, seeds: Sequence[int], step: int = 0) -> None:
        self.seeds = [int(seed) for seed in seeds]
        self._step = step
        self._calls = 0

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.seeds)

    def at(self, step: int) -> Draws:
        """The draws of one step, from its first call on."""
        return Draws(self.seeds, step)

    def select(self, index: Sequence[int], seeds: Sequence[int] | None = None) -> Draws:
        """Draws of some samples.

        Args:
            index: Rows to keep. A row that is kept twice has identical futures unless `seeds` differ.
            seeds: Fresh seeds for the kept rows.
        """
        return Draws(list(seeds) if seeds is not None else [self.seeds[i] for i in index], self._step)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        """Uniform numbers in (0, 1) of a shape whose first entry is the batch."""
        if shape[0] != self.batch:
            raise ArzooError(f"draws are for {self.batch} samples, asked for {shape[0]} rows")
        self._calls += 1
        seeds = torch.tensor([_signed(seed) for seed in self.seeds], dtype=torch.int64)
        key = _mix(_mix(seeds * _GOLDEN + self._step) + _signed(self._calls * _GOLDEN))
        counter = torch.arange(math.prod(shape[1:]), dtype=torch.int64) * _GOLDEN
        bits = _shift_right(_mix(key[:, None] + counter), 11)
        return ((bits.double() + 0.5) * 2.0**-53).to(dtype).view(*shape)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers of a shape whose first entry is the batch."""
        return torch.special.ndtri(self.uniform(shape)).to(dtype)

    def integers(self, shape: Sequence[int], high: int) -> Tensor:
        """Integers in 0..high-1."""
        return (self.uniform(shape) * high).long().clamp(max=high - 1)

    def permutation(self, n: int) -> Tensor:
        """One random order of 0..n-1 a sample, (B, n)."""
        return self.uniform((self.batch, n)).argsort(1)

    def categorical(self, probs: Tensor) -> Tensor:
        """One code a position by inversion of the distribution function: one uniform number a token.

        Args:
            probs: (B, m, V), need not be normalised.

        Returns:
            (B, m) int64.
        """
        cumulative = probs.double().cumsum(-1)
        u = self.uniform(probs.shape[:-1]).to(probs.device)[..., None] * cumulative[..., -1:]
        return torch.searchsorted(cumulative, u, right=True)[..., 0].clamp_(max=probs.shape[-1] - 1)
