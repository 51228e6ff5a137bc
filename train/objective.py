"""Objective: the contract of a training task, and the sampling of training data by running numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.core.draws import sample_draws, step_rng

PICTURES, DATA, LOSS, LAYERS, MIXTURE = range(5)
"""Random streams of a sample: choice of its picture, its augmentation, its loss, the layers of the network, and what
further losses of a mixture ask for."""
Metrics = dict[str, Any]
"""Numbers by name; a list has one number per stretch, such as the steps of a plan."""


class Objective(ABC):
    """A training task.

    Attributes:
        parts: Modules to train, each with its own optimizer, in this order within a step. The first one is the model:
            its weights are averaged (EMA), validated and exported.
        frozen: Modules that the loss or the previews need and that are not trained.
        data_facts: Facts about the data, for the start of the log.
        lineage: Origin of the weights: data, tokenizer and initial weights, with their hashes.
        ahead: Expected seconds to prepare the data when the run begins, if a rehearsal has skipped that.
        prepares: What is prepared then.
    """

    parts: dict[str, nn.Module]
    frozen: tuple[nn.Module, ...] = ()
    data_facts: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    ahead: float = 0.0
    prepares: str = "codes"

    @property
    def units(self) -> str:
        """What the samples of a step are called, in the plural."""
        return "pictures"

    def to(self, device: torch.device) -> None:
        """Move the frozen modules to the device of the training."""
        for module in self.frozen:
            module.to(device)

    @abstractmethod
    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return the training data of some samples of a step; several threads may call it at once.

        Args:
            step: Number of the step, for randomness that all its samples share.
            numbers: Running numbers of the samples; everything else about a sample follows from its number alone.
        """

    @abstractmethod
    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the loss of one part, or None if it is not trained in this step, and numbers to log."""

    def after_step(self, step: int, numbers: Sequence[int]) -> Metrics:
        """Do the upkeep after a step of the optimizers, such as codebook restarts.

        Args:
            step: Number of the step.
            numbers: Running numbers of its samples in all processes.

        Returns:
            Numbers to log, the same names in every step.
        """
        return {}

    def messages(self) -> list[str]:
        """Return lines for the console about the steps since the last call."""
        return []

    def health(self) -> Metrics:
        """Return numbers about the state of the model; called after the steps that are logged."""
        return {}

    @abstractmethod
    def validate(self, model: nn.Module) -> Metrics:
        """Compute figures on the validation split."""

    @abstractmethod
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save pictures that show the progress of the model."""

    def calibrate(self, model: nn.Module) -> None:  # noqa: B027  most kinds have nothing to measure
        """Measure what the finished model stores of its training data; by default nothing."""

    @abstractmethod
    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a checkpoint folder; `record` says how the weights were made, `add` writes more into it."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return facts about model and data, for the start of the log."""


class Sampler:
    """Order of the training pictures: shuffled epochs, or draws with replacement by weight.

    Args:
        count: Number of pictures.
        seed: Seed of the order.
        weights: (count,) relative frequencies; None means shuffled epochs.
    """

    def __init__(self, count: int, seed: int, weights: Tensor | None = None) -> None:
        self.count, self.seed = count, seed
        self._running = None if weights is None else weights.double().cumsum(0)
        self._shuffled = (-1, torch.zeros(0, dtype=torch.long))

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the pictures (B,) of samples by their running numbers, which must ascend."""
        if self._running is not None:
            uniform = sample_draws(self.seed, numbers, PICTURES).uniform((len(numbers),))
            return torch.searchsorted(self._running, uniform * self._running[-1]).clamp(max=self.count - 1)
        running = torch.tensor(numbers)
        return torch.cat([self._of_epoch(int(e))[running[running // self.count == e] % self.count]
                          for e in torch.unique(running // self.count)])  # fmt: skip

    def _of_epoch(self, epoch: int) -> Tensor:
        shuffled = self._shuffled  # threads may ask for several epochs at once, so it changes as a whole
        if epoch != shuffled[0]:
            shuffled = epoch, torch.randperm(self.count, generator=step_rng(self.seed, -1 - epoch))
            self._shuffled = shuffled
        return shuffled[1]


def balanced_weights(labels: Tensor, power: float) -> Tensor:
    """Compute sampling weights: class frequency to the power -`power` (0: natural, 1: all classes equally often)."""
    return torch.bincount(labels).double()[labels].pow(-power).float()
