"""Objective of networks of volumes: affinities of labeled cells, or what was hidden ("TokenUnify", 2025).

Shapes: B windows, Z Y X sides of a window, K tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import save_parts
from arzoo.core.draws import Draws, sample_draws
from arzoo.core.volumes import Size, in_words
from arzoo.data.volume import Volume
from arzoo.data.volume_sets import Part, parts_sha256, training_parts
from arzoo.metrics.scores.segmentation import segmentation_scores
from arzoo.models.tokenunify.affinities import affinities, affinity_loss, without_borders
from arzoo.models.tokenunify.network import SegMamba
from arzoo.models.tokenunify.pretraining import (
    hide,
    later_tokens,
    predict,
    random_cuts,
    random_tokens,
    squared_error,
    to_tokens,
    token_at,
    token_grid,
)
from arzoo.segmentation.segmenter import Segmenter
from arzoo.segmentation.segments import segments
from arzoo.train.initial import start_segmenter
from arzoo.train.objective import DATA, LOSS, Metrics, Objective
from arzoo.train.recipe import Recipe
from arzoo.train.segmenter_settings import SegmenterTraining
from arzoo.viz.volumes import slice_sheet

VALIDATED = 8
"""Windows that are looked at in validation, evenly spaced over what is held out."""
SCORED: Size = (16, 160, 160)
"""Largest volume that is segmented in validation."""


class Batch(NamedTuple):
    """Windows of a micro-batch.

    Attributes:
        voxels: (B, 1, Z, Y, X) in [0, 1].
        labels: (B, Z, Y, X) int64, None in pre-training.
        draws: Randomness of what is hidden of each.
    """

    voxels: Tensor
    labels: Tensor | None
    draws: Draws


class SegmenterObjective(Objective):
    """Trains a network of volumes.

    Args:
        network: The network.
        train: Parts of volumes.
        held_out: Parts for validation.
        settings: What it learns.
        steps: Steps of the schedule, which a curriculum follows.
        seed: Seed of the windows and of what is hidden.

    Raises:
        ArzooError: A volume is smaller than the window or has no labels, or the network has other outputs than the
            tasks need.
    """

    def __init__(
        self,
        network: SegMamba,
        train: Sequence[Part],
        held_out: Sequence[Part],
        settings: SegmenterTraining,
        steps: int,
        seed: int,
    ) -> None:
        self.settings, self.steps, self.seed = settings, steps, seed
        self.parts = {"model": network}
        self._fits(network)
        self.train, self.held_out = list(train), list(held_out)
        for what, parts in (("to train on", self.train), ("held out", self.held_out)):
            for part in parts:
                self._require(part, what)
        # Volumes are drawn as often as they have windows.
        rooms = [
            math.prod(side - own + 1 for side, own in zip(part.sides, settings.window, strict=True))
            for part in self.train
        ]
        self._running = torch.tensor(rooms, dtype=torch.float64).cumsum(0)

    @property
    def units(self) -> str:
        """What the samples of a step are called, in the plural."""
        return "windows"

    def _fits(self, network: SegMamba) -> None:
        """Refuse a network for other tasks."""
        settings, config = self.settings, network.config
        outputs, what = (
            (3, "affinities along z, y and x") if settings.affinities else (1, "the voxels themselves")
        )
        if config.out_channels != outputs:
            raise ArzooError(
                f"the network makes {config.out_channels} channels, the task needs {what}: set model.out_channels="
                f"{outputs}"
            )
        if settings.affinities:
            return
        token_grid(settings.window, settings.patch)
        head = config.resampler
        if "next" in settings.tasks and (
            head is None or (head.crop, head.patch) != (settings.window, settings.patch)
        ):
            raise ArzooError(
                "segmenter.next needs a head of the next token for its windows and tokens: set model.resampler="
                f"'{{crop: {list(settings.window)}, patch: {list(settings.patch)}}}'"
            )

    def _require(self, part: Part, what: str) -> None:
        """Refuse a part in which no window fits, or whose labels are missing."""
        name, window = part.source.name, self.settings.window
        if any(side < least for side, least in zip(part.sides, window, strict=True)):
            raise ArzooError(
                f"{name} has {in_words(part.sides)} voxels {what}, less than a window of {in_words(window)}: set a "
                "smaller segmenter.window, or leave the volume out"
            )
        if not self.settings.affinities:
            return
        if part.labels is None:
            raise ArzooError(
                f"{name} has no labels, which affinities need: put NAME_labels.h5 beside NAME_inputs.h5, or pre-train "
                "without them, such as segmenter.affinities=0 segmenter.random=1 model.out_channels=1"
            )
        if not bool((part.labels[part.first : part.first + part.slices] > 0).any()):
            raise ArzooError(
                f"the slices of {name} {what} have no cell: labels count from 1, and 0 is none. Is it the right file?"
            )

    def batch(self, step: int, numbers: Sequence[int]) -> Batch:
        """Return random windows."""
        uniform = sample_draws(self.seed, numbers, DATA).uniform((len(numbers), 4))
        which = torch.searchsorted(self._running, uniform[:, 0] * self._running[-1], right=True)
        crops = []
        for volume, places in zip(which.clamp(max=len(self.train) - 1).tolist(), uniform[:, 1:], strict=True):
            part = self.train[volume]
            room = torch.tensor(part.sides) - torch.tensor(self.settings.window) + 1
            z, y, x = (places * room).long().tolist()
            crops.append(part.crop((z, y, x), self.settings.window))
        return self._batch(crops, sample_draws(self.seed, numbers, LOSS))

    def _batch(self, crops: Sequence[tuple[Tensor, Tensor | None]], draws: Draws) -> Batch:
        labels = [cells for _, cells in crops if cells is not None]
        voxels = torch.stack([voxels for voxels, _ in crops])[:, None].float() / 255
        return Batch(voxels, torch.stack(labels) if self.settings.affinities else None, draws)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the weighted sum of the losses of the tasks."""
        losses = task_losses(parts[name], batch, self.settings)
        weights = self.settings.weights(step / self.steps)
        total = torch.stack([weights[task] * loss.mean() for task, loss in losses.items()]).sum()
        return total, {task: loss.detach().mean() for task, loss in losses.items()}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute the losses of held-out windows, and with labels the scores of the first held-out volume."""
        figures: dict[str, list[Tensor]] = {}
        device = next(model.parameters()).device
        for number, crop in enumerate(self._held_out_windows()):
            batch = self._batch([crop], Draws([number]))
            batch = batch._replace(voxels=batch.voxels.to(device))
            for task, loss in task_losses(model, batch, self.settings).items():
                figures.setdefault(task, []).append(loss.cpu())
        metrics = {f"validation_{task}": float(torch.cat(each).mean()) for task, each in figures.items()}
        if self.settings.affinities:
            _, _, labels, cells = self._segmented(model)
            scores = segmentation_scores(cells, labels)
            metrics |= {"validation_voi": scores.voi, "validation_adapted_rand": scores.adapted_rand_error}
        return metrics

    def _held_out_windows(self) -> list[tuple[Tensor, Tensor | None]]:
        """Windows spread over what is held out."""
        crops = []
        for share in torch.linspace(0, 1, VALIDATED).tolist():
            part = self.held_out[round(share * (len(self.held_out) - 1))]
            z, y, x = (int(share * (a - b)) for a, b in zip(part.sides, self.settings.window, strict=True))
            crops.append(part.crop((z, y, x), self.settings.window))
        return crops

    def _segmented(self, model: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Voxels, affinities, labels and cells of the middle of the first held-out volume."""
        part = self.held_out[0]
        assert part.labels is not None
        d, h, w = (min(side, most) for side, most in zip(part.sides, SCORED, strict=True))
        z, y, x = ((side - own) // 2 for side, own in zip(part.sides, (d, h, w), strict=True))
        voxels, labels = part.crop((z, y, x), (d, h, w))
        assert labels is not None
        segmenter = Segmenter(cast("SegMamba", model), self.settings.window, None)
        made = segmenter.affinities(Volume("held out", voxels, None, None))
        return voxels, made, labels, segments(made)

    @torch.inference_mode()
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save slices of the held-out volume with boundaries and cells, or of a window with what is hidden and made."""
        if self.settings.affinities:
            voxels, made, labels, cells = self._segmented(model)
            sheet = slice_sheet(voxels, made, {"cells": cells, "true cells": labels})
        else:
            (voxels, _), *_ = self._held_out_windows()
            batch = self._batch([(voxels, None)], Draws([0]))
            hidden = hidden_window(batch, self.settings)
            made = model(hidden.to(next(model.parameters()).device)).cpu()
            rows = [(255 * x[0, 0].clamp(0, 1)).round().to(torch.uint8) for x in (batch.voxels, hidden, made)]
            sheet = slice_sheet(torch.cat(rows, -1))
        sheet.save(folder / f"slices_{step:07d}.png")

    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the network as a checkpoint folder."""
        sizes = {part.source.voxel_size for part in self.train}
        volumes = {
            "window": self.settings.window,
            "voxel_size": next(iter(sizes)) if len(sizes) == 1 else None,
        }
        save_parts(
            folder, "segmenter", {"segmenter": model}, bits=16, overwrite=True, metrics=metrics, record=record,
            add=add, volumes=volumes, data=self.lineage["data"]["name"],
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return facts about data and size."""
        return {
            "volumes": len(self.train),
            "voxels": sum(math.prod(part.sides) for part in self.train),
            "held out": ", ".join(f"{part.source.name} ({in_words(part.sides)})" for part in self.held_out),
            "window": in_words(self.settings.window),
        }


def segmenter_objective(recipe: Recipe) -> SegmenterObjective:
    """Build the objective of a recipe with its data.

    Raises:
        ArzooError: The settings do not fit each other or the data.
    """
    settings, seed = recipe.segmenter, recipe.run.seed
    torch.manual_seed(seed)
    network: SegMamba = registry.create("segmenter", recipe.model.name, **recipe.model.settings)
    start = {"init": start_segmenter(network, recipe.init)} if recipe.init else {}
    train, held_out = training_parts(recipe.data, settings.volumes)
    objective = SegmenterObjective(network, train, held_out, settings, recipe.run.steps, seed)
    objective.lineage = {"data": {"name": recipe.data, "sha256": parts_sha256(train)}, **start}
    objective.data_facts = {"data": f"{recipe.data}, {len(train)} volumes"}
    return objective


def task_losses(network: nn.Module, batch: Batch, settings: SegmenterTraining) -> dict[str, Tensor]:
    """Return the loss (B,) of each task that has a weight.

    Args:
        network: A `SegMamba`, or a module around it.
        batch: Windows.
        settings: The tasks.
    """
    if batch.labels is not None:
        targets = affinities(without_borders(batch.labels)).to(batch.voxels.device)
        return {"affinities": affinity_loss(network(batch.voxels), targets)}
    losses, draws, patch, tasks = dict[str, Tensor](), batch.draws, settings.patch, settings.tasks
    if "random" in tasks or "masked" in tasks:
        chosen = random_tokens(draws, _count(settings), settings.share or None).to(batch.voxels.device)
        made = network(hide(batch.voxels, chosen, patch, _fill(batch, settings)))
        if "random" in tasks:
            losses["random"] = squared_error(made, batch.voxels)
        if "masked" in tasks:
            errors = (to_tokens(made, patch) - to_tokens(batch.voxels, patch)).square().mean(-1)
            losses["masked"] = (errors * chosen).sum(1) / chosen.sum(1).clamp(min=1)
    if "next" in tasks or "next_all" in tasks:
        cuts = random_cuts(draws, _count(settings)).to(batch.voxels.device)
        hidden = hide(batch.voxels, later_tokens(cuts, _count(settings)), patch, _fill(batch, settings))
        if "next" in tasks:
            prediction = predict(network, hidden)  # type: ignore[arg-type]
            losses["next"] = squared_error(prediction.token, token_at(batch.voxels, cuts, patch))
            made = prediction.volume
        else:
            made = network(hidden)
        if "next_all" in tasks:
            losses["next_all"] = squared_error(made, batch.voxels)
    return losses


def hidden_window(batch: Batch, settings: SegmenterTraining) -> Tensor:
    """Return windows (B, 1, Z, Y, X) of which later tokens, or else random ones, are hidden, to look at."""
    count = _count(settings)
    if "next" in settings.tasks or "next_all" in settings.tasks:
        chosen = later_tokens(torch.full((len(batch.voxels),), count // 2), count)
    else:
        chosen = random_tokens(batch.draws, count, settings.share or None)
    return hide(batch.voxels, chosen, settings.patch, _fill(batch, settings))


def _count(settings: SegmenterTraining) -> int:
    """Tokens of a window."""
    return math.prod(token_grid(settings.window, settings.patch))


def _fill(batch: Batch, settings: SegmenterTraining) -> Tensor | None:
    """What stands in hidden voxels; None for zeros."""
    if settings.fill == "zeros":
        return None
    return batch.draws.normal(tuple(batch.voxels.shape)).to(batch.voxels.device)
