"""Recorded random numbers in place of drawn ones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from parity.golden import Golden
from torch import Tensor

from arzoo.core.draws import Draws


class Entry(NamedTuple):
    """One recorded call: which function was called, and what it returned."""

    kind: str
    value: Tensor


def entries(golden: Golden, prefix: str) -> list[Entry]:
    """Calls in the order in which they were made, from keys like `PREFIX.0007.randn_like`."""
    found = {}
    for key, value in golden.sub(prefix).items():
        match = re.fullmatch(r"\.?(\d+)\.(\w+)", key)
        assert match, f"{prefix}{key} does not name a recorded call"
        found[int(match[1])] = Entry(match[2], value)
    assert sorted(found) == list(range(len(found))), f"calls are missing from {prefix}"
    return [found[i] for i in range(len(found))]


def split_at(recorded: Iterable[Entry], kind: str) -> list[list[Tensor]]:
    """Values of the calls, a new list from every call of a kind on: a group's initial noise starts its draws."""
    groups: list[list[Tensor]] = []
    for entry in recorded:
        if entry.kind == kind:
            groups.append([])
        groups[-1].append(entry.value)
    return groups


class Tape(Draws):
    """Plays recorded draws back, step by step and in the order of the calls, whatever the distribution.

    Published code often draws for both branches of guidance where one is used, and flattens samples and positions: a
    call takes the first numbers of a recorded tensor that holds as many as it wants, or a multiple of that.

    Args:
        batch: Number of samples.
        steps: Values of the calls of every step.
        step: The step that draws.
    """

    def __init__(self, batch: int, steps: Sequence[Sequence[Tensor]], step: int = 0) -> None:
        super().__init__([0] * batch, step)
        self.steps, self.used = steps, [0] * len(steps)

    def at(self, step: int) -> Tape:
        self._step = step
        return self

    @property
    def left(self) -> list[int]:
        """How many recorded calls of each step were not asked for."""
        return [len(step) - used for step, used in zip(self.steps, self.used, strict=True)]

    def play(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The next recorded numbers in a shape."""
        used = self.used[self._step]
        assert used < len(self.steps[self._step]), f"step {self._step} draws more often than recorded"
        value, count = self.steps[self._step][used], math.prod(shape)
        assert value.numel() % count == 0, f"recorded {tuple(value.shape)}, asked for {tuple(shape)}"
        self.used[self._step] += 1
        return value.flatten()[:count].view(*shape).to(dtype)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        return self.play(shape, dtype)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return self.play(shape, dtype)

    def integers(self, shape: Sequence[int], high: int) -> Tensor:
        return self.play(shape, torch.long)
