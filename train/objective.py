"""Objective: what the engine trains, and the sampling of training data as a function of the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.core.draws import step_rng

Metrics = dict[str, Any]
"""Numbers by name; a list is a number a stretch of something."""


class Objective(ABC):
    """A training task.

    Attributes:
        parts: Modules that are trained, each by an optimizer of its own, in this order within a step. The first one is
            the model: its weights are averaged (EMA), validated and exported.
        frozen: Modules that the loss or the previews need and nobody trains.
        found: What the data was, for the start of the log.
        lineage: What the weights will descend from: data, tokenizer, initial weights, with their hashes.
        ahead: Seconds that preparing the data will take when the run begins, where a rehearsal left it out.
    """

    parts: dict[str, nn.Module]
    frozen: tuple[nn.Module, ...] = ()
    found: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    ahead: float = 0.0

    def to(self, device: torch.device) -> None:
        """Move what is not trained to the device of the training."""
        for module in self.frozen:
            module.to(device)

    @abstractmethod
    def batch(self, step: int, size: int) -> Any:
        """Training data of a micro-batch, a function of its running number alone."""

    @abstractmethod
    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Loss of one part (None: nothing to do this step) and numbers to log."""

    def after_step(self, step: int) -> Metrics:
        """Upkeep behind the optimizer (codebook restarts). Returns numbers to log, for what it does every step."""
        return {}

    def health(self) -> Metrics:
        """Numbers about the state of what is trained, asked for behind the steps that are logged."""
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
    """Which samples a step sees: shuffled epochs, or draws with replacement by weight.

    Args:
        count: Number of samples.
        seed: Seed of the order.
        weights: (count,) relative frequency; None is one of each an epoch.
    """

    def __init__(self, count: int, seed: int, weights: Tensor | None = None) -> None:
        self.count, self.seed, self.weights = count, seed, weights
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.long)

    def indices(self, step: int, size: int) -> Tensor:
        """(size,) indices of micro-batch number `step`."""
        if self.weights is not None:
            return torch.multinomial(
                self.weights, size, replacement=True, generator=step_rng(self.seed, step)
            )
        places = torch.arange(step * size, (step + 1) * size)
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
