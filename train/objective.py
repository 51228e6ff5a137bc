"""Objective: what the engine trains, and the sampling of training data as a function of running numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.core.draws import sample_draws, step_rng

PICTURES, DATA, LOSS, LAYERS = range(4)
"""Streams of the draws of a sample: which picture it shows, how, what its loss draws, and what layers do."""
Metrics = dict[str, Any]
"""Numbers by name; a list is a number a stretch of something."""


class Objective(ABC):
    """A training task.

    Attributes:
        parts: Modules that are trained, each by an optimizer of its own, in this order within a step. The first one is
            the model: its weights are averaged (EMA), validated and exported.
        frozen: Modules that the loss or the previews need and nobody trains.
        data_facts: What the data was, for the start of the log.
        lineage: What the weights will descend from: data, tokenizer, initial weights, with their hashes.
        ahead: Seconds that preparing the data will take when the run begins, where a rehearsal left it out.
    """

    parts: dict[str, nn.Module]
    frozen: tuple[nn.Module, ...] = ()
    data_facts: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    ahead: float = 0.0

    def to(self, device: torch.device) -> None:
        """Move what is not trained to the device of the training."""
        for module in self.frozen:
            module.to(device)

    @abstractmethod
    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Training data of some samples of a step.

        Args:
            step: Which step, for what all samples of a step share.
            numbers: Their running numbers, from which the rest of a sample follows, whatever it is computed with.
        """

    @abstractmethod
    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Loss of one part (None: nothing to do this step) and numbers to log."""

    def after_step(self, step: int, numbers: Sequence[int]) -> Metrics:
        """Upkeep after the optimizer (codebook restarts).

        Args:
            step: Which step.
            numbers: Running numbers of its samples, those of all processes.

        Returns:
            Numbers to log, for what it does every step.
        """
        return {}

    def health(self) -> Metrics:
        """Numbers about the state of what is trained, asked for after the steps that are logged."""
        return {}

    @abstractmethod
    def validate(self, model: nn.Module) -> Metrics:
        """Figures on the validation split."""

    @abstractmethod
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Pictures that show how far the model is."""

    @abstractmethod
    def export(self, model: nn.Module, folder: Path, metrics: Metrics, record: dict[str, Any]) -> None:
        """Write a checkpoint folder; `record` says how the weights were made."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What is trained on what, for the start of the log."""


class Sampler:
    """Which pictures are seen: shuffled epochs, or draws with replacement by weight.

    Args:
        count: Number of pictures.
        seed: Seed of the order.
        weights: (count,) relative frequency; None is one of each an epoch.
    """

    def __init__(self, count: int, seed: int, weights: Tensor | None = None) -> None:
        self.count, self.seed = count, seed
        self._running = None if weights is None else weights.double().cumsum(0)
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.long)

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """(B,) pictures that B samples of the training show, by their running numbers, which must ascend."""
        if self._running is not None:
            uniform = sample_draws(self.seed, numbers, PICTURES).uniform((len(numbers),))
            return torch.searchsorted(self._running, uniform * self._running[-1]).clamp(max=self.count - 1)
        places = torch.tensor(numbers)
        return torch.cat([self._of_epoch(int(e))[places[places // self.count == e] % self.count]
                          for e in torch.unique(places // self.count)])  # fmt: skip

    def _of_epoch(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._order = torch.randperm(self.count, generator=step_rng(self.seed, -1 - epoch))
            self._epoch = epoch
        return self._order


def balanced_weights(labels: Tensor, power: float) -> Tensor:
    """Sampling weight of every sample: class frequency to the power -power (0 natural, 1 all classes equal)."""
    return torch.bincount(labels).double()[labels].pow(-power).float()
