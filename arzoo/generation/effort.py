"""The cost of a request: the steps of its plan, and the calls of backbone and heads."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import nn

from arzoo.base import estimate
from arzoo.base.errors import UsageError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.plan import Plan
from arzoo.core.pyramid import on_canvas
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.samplers.loop import Step, check_settings
from arzoo.samplers.plans.about import about


def with_steps(model: Generator, steps: int) -> Generator:
    """Return the model with another number of steps; of a plan with stages, in the last stage.

    Raises:
        UsageError: The number of steps of its plan is fixed.
        ArzooError: Its plan does not allow this number of steps.
    """
    if about(model.plan_name).option("steps") is None:
        raise UsageError(
            f"--steps is for masked models: plan {model.plan_name!r} of this one always takes {len(model.plan())} steps"
        )
    if model.plan().stages > 1:
        return model.with_plan(steps=[*model.plan_options["steps"][:-1], steps])
    return model.with_plan(steps=steps)


def open_steps(plan: Plan, given: Tokens | None) -> list[int]:
    """Return the steps of a plan that have tokens left to draw; all pictures are given the same positions."""
    if given is None:
        return list(range(len(plan)))
    known = on_canvas(given, plan.layout).given[:1].cpu()
    return [k for k, group in enumerate(plan.groups) if not bool(known.gather(1, group).all())]


def head_calls(model: Generator, plan: Plan, knobs: Control, steps: Sequence[int]) -> int:
    """Count the head evaluations per picture; the branches of guidance count once.

    Args:
        model: The generator.
        plan: The order of generation.
        knobs: Settings of the heads by step.
        steps: The steps that draw tokens.

    Raises:
        ArzooError: A head cannot draw with the settings of some step.
    """
    by_step = check_settings(model, plan, [knobs] * plan.stages)
    return sum(model.heads[plan.stage[k]].evaluations(by_step[k]) for k in steps)


def expected_cost(
    model: Generator,
    cond: Cond,
    seeds: Sequence[int],
    knobs: Control,
    tokens: Tokens | None,
    calls: int,
    total: int,
) -> tuple[float, dict[str, int]]:
    """Estimate seconds and memory of a request from the first steps of its first batch.

    Args:
        model: The generator.
        cond: Condition of the first batch.
        seeds: Seeds of the first batch.
        knobs: Settings of the heads by step.
        tokens: Given tokens of the first batch, if any.
        calls: Number of steps that draw tokens.
        total: Pictures in all batches.
    """
    last: deque[Step] = deque(maxlen=1)  # its run holds the canvas and the caches
    steps = map(last.append, model.stream(cond, seeds, knobs, tokens))
    drawing = estimate.expected_seconds(steps, calls) * -(-total // cond.batch)
    canvas = last[0].run.tokens
    rows = torch.arange(cond.batch).split(1)
    decoding = estimate.expected_seconds((model.decode(canvas.select(row)) for row in rows), total)
    memory = {"weights": estimate.tensor_bytes(*weights(model)), "caches": estimate.tensor_bytes(last[0].run)}
    return drawing + decoding, memory


def weights(model: Generator) -> list[nn.Module]:
    """Return all networks of a generator."""
    encoder = [model.text.encoder] if model.text else []
    return [model.tokenizer, model.backbone, *model.heads, *encoder]
