"""Report of a run at its start: data, sizes, effective batch, cost, time, and paths of its files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from arzoo.base.console import human_seconds
from arzoo.checkpoints.runs import CHECKPOINT, STATES
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.train.clips import noun
from arzoo.train.devices import computed
from arzoo.train.optim import matrices
from arzoo.train.run.log import FILE
from arzoo.train.run.page import FILE as PAGE
from arzoo.train.run.page import PREVIEWS
from arzoo.train.settings import OptimConfig, RunConfig


def data_facts(data: ImageSet, policy: Augment) -> dict[str, Any]:
    """Return facts about the data: number of pictures or clips, their sizes, augmentation, remarks on their files."""
    facts: dict[str, Any] = {
        "data": f"{data.name}, {len(data)} {noun(data.frames)}s in {len(data.classes)} classes"
    }
    original = f", resized from sides of {data.sides[0]} to {data.sides[1]}" if data.sides else ""
    cut = f"; {data.cropping}" if data.cropping else ""
    facts["resolution"] = f"{data.resolution}{original}{cut}"
    if data.frames > 1:
        facts["frames"] = data.frames
    facts["augmentation"] = str(policy)
    facts["remarks"] = list(data.report)
    return facts


def run_facts(
    parts: Mapping[str, nn.Module], run: RunConfig, optim: OptimConfig, processes: int, out: Path
) -> dict[str, Any]:
    """Return facts about the run: sizes, effective batch, and paths of its files."""
    facts: dict[str, Any] = {}
    for name, part in parts.items():
        counts = [(p.numel(), p.requires_grad) for p in part.parameters()]
        total, trained = sum(n for n, _ in counts), sum(n for n, trains in counts if trains)
        frozen = f", {human(trained)} of them trained" if trained < total else ""
        facts[f"{name} parameters"] = f"{human(total)} ({total}){frozen}"
    micro = run.batch // run.accumulate // processes
    facts["effective batch"] = (
        f"{run.batch} = {processes} processes x {run.accumulate} micro-batches x {micro}"
    )
    how = "sharded (FSDP2)" if run.sharded else "copies (DDP)" if processes > 1 else "one process"
    precision = computed(run.precision)
    if precision != run.precision:
        precision += f" (this processor has no instructions for {run.precision})"
    facts["steps"] = f"{run.steps}, {optim.name}, {optim.schedule}, {precision}, {how}"
    if optim.name == "muon":
        name, model = next(iter(parts.items()))  # the other parts have AdamW
        facts["muon"] = f"{_by_muon(model, optim)} of {name!r}"
    facts["log"] = out / FILE
    facts["page"] = f"{out / PAGE}, to open in a browser"
    facts["previews"] = f"{out / PREVIEWS}, every {run.preview_every} steps"
    facts["saved states"] = f"{out / STATES}, every {run.save_every} steps, the last {run.keep} stay"
    facts["checkpoint"] = f"{out / CHECKPOINT}, at the end"
    return facts


def _by_muon(part: nn.Module, optim: OptimConfig) -> str:
    """Number of matrices trained by Muon, in words."""
    weights = {name: p for name, p in part.named_parameters() if p.requires_grad}
    taken, everything = matrices(part, optim), [p for p in weights.values() if p.dim() == 2]
    share = sum(weights[name].numel() for name in taken) / sum(p.numel() for p in weights.values())
    return f"{len(taken)} of {len(everything)} matrices, {share:.0%} of the trained parameters,"


def cost(flops: float, seconds: float, steps: int) -> str:
    """Return a line with the cost of a step and the remaining time.

    Args:
        flops: Floating-point operations of a step, over all processes; 0 if not counted.
        seconds: Measured duration of a step.
        steps: Remaining steps.
    """
    work = f"{human(flops)}FLOPs per step ({human(flops / seconds)}FLOP/s), " if flops else ""
    return f"{work}{seconds:.3g} s per step, about {human_seconds(seconds * steps)} for {steps} steps"


class TimeLeft:
    """Remaining time of a run, from the time since its first step, including previews and saved states.

    Args:
        end: Last step of the run.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._first: tuple[int, float] | None = None

    def after(self, step: int) -> str:
        """Return the remaining time after a step in words; empty after the first step and the last one."""
        now = time.perf_counter()
        if self._first is None:
            self._first = step, now
        first, then = self._first
        return (
            human_seconds((now - then) / (step - first) * (self.end - step))
            if first < step < self.end
            else ""
        )


def human(value: float) -> str:
    """Format a number with a decimal prefix: 5.7M."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(value) < 999.5 or prefix == "P":
            return f"{value:.3g}{prefix}"
        value /= 1000
    raise AssertionError
