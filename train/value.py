"""Objective of value models: foresee how the rollouts of a generator end, after every step of them.

"Token-Supervised Value Models", 2024: the target of a prefix is the mean final score of the rollouts that share it.
Prefixes that only one training rollout has, which is most, have its own score as target; the squared error leads to the
mean all the same. Held-out rollouts have their own score.

Shapes: n rollouts, B of a batch, N positions, K steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.core.draws import step_rng
from arzoo.generation.rollouts import Rollouts
from arzoo.generation.values import Value
from arzoo.models.value.network import ValueNetwork
from arzoo.train.objective import Metrics, Objective, Sampler
from arzoo.viz.plots import can_plot, plot_lines

_BINS = 10
"""Bins of equally many held-out rollouts, by their prediction, in the calibration error."""
_FACTORS = (0x2545F4914F6CDD1D, 0x27D4EB2F165667C5, 0x165667B19E3779F9)
"""Odd numbers that mix positions, tokens and subjects into one number of a prefix."""


class ValueObjective(Objective):
    """Trains a value model on rollouts.

    Args:
        value: The model with its origin.
        rollouts: All rollouts; a share is held out.
        committed: (K,) tokens that have a value after each step.
        held_out: The share.
        seed: Seed of the division and of the order of the data.
    """

    prepares = "rollouts"

    def __init__(
        self, value: Value, rollouts: Rollouts, committed: Sequence[int], held_out: float, seed: int
    ) -> None:
        self.value, self.committed = value, torch.tensor(committed)
        network = value.network
        self.parts: dict[str, nn.Module] = {"model": network}
        count = len(rollouts.worth)
        half = int(count * held_out) // 2
        order = torch.randperm(count, generator=step_rng(seed, -1))
        self.calibration, self.figures = (rollouts.select(order[i * half : (i + 1) * half]) for i in (0, 1))
        self.train = rollouts.select(order[2 * half :].sort().values)
        self.counts, shared = reached(self.train, len(committed)), self._targets(self.train)
        self.targets = shared_means(shared, prefixes(self.train, len(committed)))
        if network.config.target == "score":
            network.mean.copy_(self.train.worth.mean())
            network.deviation.copy_(self.train.worth.std(correction=0).clamp(min=1e-6))
        self.sampler = Sampler(len(self.train.worth), seed)

    def _targets(self, rollouts: Rollouts) -> Tensor:
        """Targets (n, K) of single rollouts, in the units of the network."""
        worth = rollouts.worth[:, None].expand(-1, len(self.committed))
        if self.value.network.config.target == "length":
            worth = (worth - self.committed).clamp(min=0)
        return self.value.network.in_units(worth)

    def batch(self, step: int, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Return features, tokens and targets of some rollouts."""
        rows = self.sampler.rows(numbers)
        data = {name: getattr(self.train, name)[rows] for name in ("features", "values", "steps")}
        return data | {"targets": self.targets[rows], "counts": self.counts[rows]}

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: dict[str, Tensor], step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the mean loss over all steps of the rollouts."""
        outputs = parts[name](batch["features"], batch["values"], batch["steps"])
        network: Any = self.value.network
        each = network.loss(outputs, batch["targets"])
        return (each * batch["counts"]).sum() / batch["counts"].sum(), {}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute figures of the held-out rollouts that did not fit the calibration.

        They are the explained variance (1 - the mean squared error divided by the variance of the targets) by step and
        over all steps (1 - the sum of squared errors divided by that of deviations from the means of the steps), and
        the calibration error (the mean difference between the means of predictions and targets, over ten bins by
        prediction), in units of targets, by step and on average; also the loss.
        """
        assert isinstance(model, ValueNetwork)
        slope, offset = self._calibrated(model)
        outputs, counts = self._outputs(model, self.figures)
        targets = self._targets(self.figures)
        each = model.loss(outputs, targets)
        predictions = slope * model.uncalibrated(outputs) + offset
        by_step = [
            quality(predictions[counts[:, k], k], targets[counts[:, k], k])
            for k in range(len(self.committed))
        ]
        explained, error = (torch.stack(x) for x in zip(*by_step, strict=True))
        return {
            "validation_loss": float((each * counts).sum() / counts.sum()),
            "explained_variance": float(pooled(predictions, targets, counts)),
            "calibration_error": float(error.mean()),
            "explained_variance_by_step": explained,
            "calibration_error_by_step": error,
        }

    def _outputs(self, model: nn.Module, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Outputs (n, K) on the CPU, and which of them count."""
        device = next(model.parameters()).device
        names = ("features", "values", "steps")
        outputs = [
            model(*(getattr(rollouts, name)[rows].to(device) for name in names)).cpu()
            for rows in torch.arange(len(rollouts.worth)).split(256)
        ]
        return torch.cat(outputs), reached(rollouts, len(self.committed))

    def _calibrated(self, model: ValueNetwork) -> tuple[Tensor, Tensor]:
        """Slopes and offsets (K,) that fit the held-out rollouts of the calibration best."""
        outputs, counts = self._outputs(model, self.calibration)
        predictions, targets = model.uncalibrated(outputs), self._targets(self.calibration)
        fits = [affine(predictions[c, k], targets[c, k]) for k, c in enumerate(counts.T)]
        slope, offset = (torch.stack(x) for x in zip(*fits, strict=True))
        return slope, offset

    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Plot explained variance and calibration error over the steps."""
        if can_plot():
            figures = self.validate(model)
            names = ("explained_variance", "calibration_error")
            lines = {name: figures[f"{name}_by_step"].tolist() for name in names}
            plot_lines(lines, folder / f"value_{step:07d}.png", xlabel="step of the plan")

    @torch.inference_mode()
    def calibrate(self, model: nn.Module) -> None:
        """Fit the calibration of the model to held-out rollouts."""
        assert isinstance(model, ValueNetwork)
        slope, offset = self._calibrated(model)
        model.slope.copy_(slope)
        model.offset.copy_(offset)

    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the value model as a checkpoint folder; where it has figures, with those of each step."""
        assert isinstance(model, ValueNetwork)
        figures = self.validate(model) if metrics else {}
        lists = {k: [round(x, 4) for x in v.tolist()] for k, v in figures.items() if isinstance(v, Tensor)}
        replace(self.value, network=model).save(folder, {**metrics, **lists}, record, add)

    def summary(self) -> dict[str, Any]:
        """Return facts about the rollouts and the size."""
        worth = self.train.worth
        return {
            "division": f"{len(worth)} for training, {len(self.calibration.worth)} for calibration, "
            f"{len(self.figures.worth)} for figures",
            "worth": f"{float(worth.mean()):.4g}, standard deviation {float(worth.std(correction=0)):.4g}",
            "steps": len(self.committed),
            "model parameters": sum(p.numel() for p in self.parts["model"].parameters()),
        }


def reached(rollouts: Rollouts, steps: int) -> Tensor:
    """(n, K) bool, the steps in which a rollout has drawn tokens."""
    return by_step(rollouts, torch.ones_like(rollouts.steps, dtype=torch.long), steps) > 0


def prefixes(rollouts: Rollouts, steps: int) -> Tensor:
    """(n, K) int64, equal where rollouts of the same subject have drawn the same tokens up to a step."""
    a, b, c = _FACTORS
    values = rollouts.values
    bits = values.view(torch.int32) if values.is_floating_point() else values  # vectors are equal bit for bit
    flat = bits.reshape(*bits.shape[:2], -1).long() + 1
    mixed = (flat * (a + 2 * torch.arange(flat.shape[-1]) * b)).sum(-1) + torch.arange(
        1, flat.shape[1] + 1
    ) * c
    mixed = (mixed ^ (mixed >> 29)) * b
    group = by_step(rollouts, mixed ^ (mixed >> 31), steps)
    return group.cumsum(1) * a + rollouts.subjects[:, None] * c


def by_step(rollouts: Rollouts, numbers: Tensor, steps: int) -> Tensor:
    """Sums (n, K) of numbers (n, N) int64 of tokens over those that were drawn in each step."""
    index = torch.where(rollouts.steps < 0, steps, rollouts.steps.long())
    return torch.zeros(len(index), steps + 1, dtype=torch.long).scatter_add(1, index, numbers)[:, :steps]


def shared_means(targets: Tensor, keys: Tensor) -> Tensor:
    """Mean (n, K) of the targets (n, K) of all rows with the same key (n, K), step by step."""
    out = torch.empty_like(targets)
    for k in range(targets.shape[1]):
        _, group, sizes = keys[:, k].unique(return_inverse=True, return_counts=True)
        sums = torch.zeros(len(sizes), dtype=targets.dtype).scatter_add(0, group, targets[:, k])
        out[:, k] = (sums / sizes)[group]
    return out


def affine(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of the line through predictions (n,) that fits the targets (n,) best.

    Never a falling one, and where predictions or rollouts are too few to tell, the predictions stay.
    """
    if len(predictions) < 2 or float(predictions.std()) < 1e-8:
        return torch.ones(()), torch.zeros(()) if not len(targets) else (targets - predictions).mean()
    centred = predictions - predictions.mean()
    slope = ((centred * (targets - targets.mean())).sum() / centred.square().sum()).clamp(min=0)
    return slope, targets.mean() - slope * predictions.mean()


def pooled(predictions: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Explained variance of predictions (n, K) over all steps; `counts` (n, K) says which there are.

    A step in which the targets hardly differ weighs as little as its variance; 0 without any.
    """
    if not counts.any():
        return torch.zeros(())
    sizes = counts.sum(0).clamp(min=1)
    deviations = (targets - (targets * counts).sum(0) / sizes) * counts
    errors = (predictions - targets) * counts
    return 1 - errors.square().sum() / deviations.square().sum().clamp(min=1e-12)


def quality(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Explained variance, and calibration error in units of targets, of predictions (n,); 0 without any."""
    if not len(targets):
        return torch.zeros(()), torch.zeros(())
    variance = targets.var(correction=0)
    explained = 1 - (predictions - targets).square().mean() / variance.clamp(min=1e-12)
    order = predictions.argsort(stable=True)
    bins = min(_BINS, len(order))
    gaps = [(predictions[rows].mean() - targets[rows].mean()).abs() for rows in order.tensor_split(bins)]
    shares = torch.tensor([len(rows) for rows in order.tensor_split(bins)]) / len(order)
    return explained, (torch.stack(gaps) * shares).sum()
