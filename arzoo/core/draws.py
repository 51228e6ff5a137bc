"""Draws: all randomness of a run, as a function of (sample seed, step, call, element).

A counter-based random number generator (SplitMix64, "Fast Splittable Pseudorandom Number Generators", 2014, section 5)
needs no object per sample: a draw is vectorized over the batch, a sample depends on its own seed only, and the number
of draws in one step does not change those of the next. Numbers are computed on the CPU, so they are equal on every
device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed

_MIX1, _MIX2, _GOLDEN = (np.uint64(c) for c in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))


def _word(value: int) -> NDArray[np.uint64]:
    """An integer modulo 2^64, as an array: numpy's scalars would warn about the intended overflow."""
    return np.array([value % (1 << 64)], dtype=np.uint64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64, a bijection of 64-bit integers."""
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


class Draws:
    """Randomness of a batch.

    Args:
        seeds: One integer per sample.
        step: Step of the plan.
        gumbel: Draw codes with the Gumbel-max trick: V numbers per token instead of one, but a small change of the
            probabilities then changes far fewer codes than with inversion. Exact parallel decoding by fixed-point
            iteration needs this.

    Example:
        >>> Draws([5, 6]).at(3).uniform((2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, seeds: Sequence[int], step: int = 0, gumbel: bool = False) -> None:
        self.seeds = [int(seed) for seed in seeds]
        self.gumbel = gumbel
        self._step = step
        self._calls = 0

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.seeds)

    def at(self, step: int, attempt: int = 0) -> Draws:
        """Draws of a step, starting with its first call.

        Args:
            step: Step of the plan.
            attempt: Number of the attempt, where a step is drawn again; each has randomness of its own.
        """
        return Draws(self.seeds, step + (attempt << 32), self.gumbel)

    def select(self, index: Sequence[int], seeds: Sequence[int] | None = None) -> Draws:
        """Draws of some samples.

        Args:
            index: Rows to select. Rows selected twice get the same numbers unless `seeds` differ.
            seeds: New seeds of the selected rows.
        """
        selected = list(seeds) if seeds is not None else [self.seeds[i] for i in index]
        return Draws(selected, self._step, self.gumbel)

    def uniform(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float64, only: Tensor | None = None
    ) -> Tensor:
        """Uniform numbers in (0, 1); the first entry of the shape is the batch.

        With `only`, a bool tensor of that shape, just these elements are computed, and come in a row.
        """
        # The compiler does not know the integers inside. As a decorator, `disable` would import all of the compiler.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(self._uniform)(shape, dtype, only)
        return self._uniform(shape, dtype, only)

    def _uniform(self, shape: Sequence[int], dtype: torch.dtype, only: Tensor | None) -> Tensor:
        """Numbers of `uniform`."""
        if shape[0] != self.batch:
            raise ArzooError(f"draws are for {self.batch} samples, asked for {shape[0]} rows")
        self._calls += 1
        seeds = np.concatenate([_word(seed) for seed in self.seeds])
        key = _mix(_mix(seeds * _GOLDEN + _word(self._step)) + _word(self._calls) * _GOLDEN)
        counter = np.arange(math.prod(shape[1:]), dtype=np.uint64) * _GOLDEN
        if only is None:
            numbers = key[:, None] + counter
        else:
            row, element = only.flatten(1).cpu().numpy().nonzero()
            numbers, shape = key[row] + counter[element], row.shape
        bits = _mix(numbers) >> np.uint64(11)
        return torch.from_numpy((bits + 0.5) * 2.0**-53).to(dtype).view(*shape)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers; the first entry of the shape is the batch."""
        return torch.special.ndtri(self.uniform(shape)).to(dtype)

    def logit_normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Sigmoids of standard normal numbers, used as training times that favor the middle of a flow."""
        return self.normal(shape, torch.float64).sigmoid().to(dtype)

    def integers(self, shape: Sequence[int], high: int) -> Tensor:
        """Uniform integers from 0 to high - 1."""
        return (self.uniform(shape) * high).long().clamp(max=high - 1)

    def permutation(self, n: int) -> Tensor:
        """One random permutation of 0..n-1 per sample, (B, n)."""
        return self.uniform((self.batch, n)).argsort(dim=1, stable=True)

    def categorical(self, probs: Tensor) -> Tensor:
        """Draw one code per position by inverting the distribution function, with one uniform number per token.

        With `gumbel` it is the argmax of log-probabilities plus Gumbel noise ("A* Sampling", 2014, section 2).

        Args:
            probs: (B, m, V), not necessarily normalized.

        Returns:
            (B, m) int64.
        """
        if self.gumbel:
            # The argmax of log p - log(-log u) is that of p / -log u, which also excludes codes without mass.
            # Noise belongs to a code, so what filters remove needs none.
            kept = probs > 0
            rate = -self.uniform(probs.shape, only=kept).to(probs.device).log()
            race = torch.zeros_like(probs, dtype=torch.float64)
            return race.masked_scatter_(kept, probs[kept].double() / rate).argmax(-1)
        level = self.uniform(probs.shape[:-1]).to(probs.device)[..., None]
        if probs.shape[-1] % _BLOCK or probs.shape[-1] == _BLOCK:
            return _invert(probs, level * probs.sum(-1, keepdim=True, dtype=torch.float64))[0][..., 0]
        # Running sums are slower than sums: find the block of codes first, then the code inside it.
        blocks = probs.unflatten(-1, (-1, _BLOCK))
        mass = blocks.sum(-1, dtype=torch.float64)
        block, rest = _invert(mass, level * mass.sum(-1, keepdim=True))
        inside = blocks.gather(-2, block[..., None].expand(*block.shape, _BLOCK))[..., 0, :]
        return (block * _BLOCK + _invert(inside, rest)[0])[..., 0]

    def distinct(self, log_probs: Tensor, count: int) -> Tensor:
        """Draw different codes, one after another without replacement, with the Gumbel-top-k trick.

        ("Stochastic Beams and Where to Find Them", 2019.)

        Args:
            log_probs: (B, ..., V), not necessarily normalized.
            count: Number of codes, at most V. Codes without mass come last, where fewer than `count` have some.

        Returns:
            (B, ..., count) int64, in the order in which they were drawn.
        """
        gumbel = -(-self.uniform(log_probs.shape).to(log_probs.device).log()).log()
        return (log_probs.double() + gumbel).topk(count).indices


_BLOCK = 128


def _invert(mass: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the entry where the running sum of `mass` (..., n) exceeds `level` (..., 1), and the rest inside it.

    Rounding must not lead past the last entry that has mass, or a filtered code could be drawn.
    """
    running = mass.double().cumsum(-1)
    level = torch.minimum(level, torch.nextafter(running[..., -1:], torch.zeros_like(level)))
    index = torch.searchsorted(running, level, right=True)
    return index, level - (running.gather(-1, index) - mass.double().gather(-1, index))


def sample_draws(seed: int, numbers: Iterable[int], stream: int) -> Draws:
    """Randomness of training samples, independent of how they are batched.

    Args:
        seed: Seed of the training run.
        numbers: Numbers of the samples, counted over the training run.
        stream: Number of the use; draws of different streams are independent.
    """
    return Draws([sample_seed(seed, number) for number in numbers], stream)


def step_rng(seed: int, step: int) -> torch.Generator:
    """Random number generator of a step, independent of every other step, so that a run can resume at any step."""
    return torch.Generator().manual_seed(int(Draws([seed], step).integers((1, 1), 2**62)))
