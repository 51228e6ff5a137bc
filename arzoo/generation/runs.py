"""The runs of a generator: canvas, plan, knobs and weights of one batch, and a request in several batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.base.finite import NotANumber
from arzoo.base.registry import called
from arzoo.core import pyramid
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.generation.canvas import refuse_given, without_padding
from arzoo.generation.drawings import Drawings, DrawingStep
from arzoo.generation.gaps import NeverTrained, OtherPlan, plan_remark
from arzoo.generation.packed import drawing
from arzoo.generation.request import NoEffect, idle_knobs
from arzoo.samplers.loop import Run, start
from arzoo.samplers.speculative.base import Speculation
from arzoo.samplers.stopping import Stop

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def begin(
    model: Generator,
    cond: Cond,
    seeds: Sequence[int],
    control: Control | None = None,
    given: Tokens | None = None,
    gumbel: bool = False,
) -> tuple[Generator, Run]:
    """Start a run, and return the model to draw with, whose weights are packed on a CPU.

    Args:
        model: The generator.
        cond: The condition, B rows.
        seeds: One per sample.
        control: Knobs; the checkpoint's own by default.
        given: Tokens or a canvas, see `Generator.stream`.
        gumbel: Draw codes with the Gumbel-max trick, see `Draws`.

    Raises:
        ArzooError: The given tokens are of another canvas, or as `loop.start`.

    Warns:
        NoEffect: No head uses a knob that was set.
        NeverTrained: The training had no picture of a class, no null condition for guidance, or another plan.
    """
    if given is None:
        plan = model.plan(seeds)
        canvas = replace(model.spec, layout=plan.layout).empty(cond.batch, model.device)
    else:
        refuse_given(given, model.spec, model.plan().layout, cond.batch)
        given = without_padding(given)
        kept = given.given.cpu()
        # A plan has at least one step, so where all tokens are given none is scheduled as given.
        plan = model.plan(seeds, None if kept.all() else kept)
        canvas = pyramid.on_canvas(given.copy(model.device), plan.layout)
    control = model.control if control is None else control
    packed = model
    if model.device.type == "cpu":
        packed = model.with_weights(drawing(model.backbone), [drawing(head) for head in model.heads])
    run = start(packed, plan, cond.to(model.device), control, canvas, Draws(seeds, gumbel=gumbel))
    if idle := idle_knobs(model, control):
        heads = ", ".join(map(called, model.heads))
        warnings.warn(f"{', '.join(idle)}: no effect with head {heads}", NoEffect, stacklevel=3)
    for remark in model.untrained.remarks(cond.label, model.classes, run.state.branches == 2):
        warnings.warn(remark, NeverTrained, stacklevel=3)
    if remark := plan_remark(model):
        warnings.warn(remark, OtherPlan, stacklevel=3)
    return packed, run


def warn_not_finite(model: Generator, run: Run) -> None:
    """Warn of vectors that a head drew and that are not finite, which no tokenizer can decode.

    Warns:
        NotANumber: There are some; the message names the head by its part of the checkpoint.
    """
    if model.spec.discrete:
        return
    bad = ~run.tokens.values.isfinite().all(-1) & ~run.tokens.given
    parts = [name for name in model.parts if name.startswith("head")]
    for stage in range(run.plan.stages):
        own = bad[:, run.plan.layout.span(stage)] if run.plan.stages > 1 else bad  # type: ignore[union-attr]
        if count := int(own.sum()):
            warnings.warn(
                f"part {parts[stage]!r} (head {called(model.heads[stage])}) drew {count} of {own.numel()} tokens that "
                "are not finite: it is untrained or has diverged, or its first solver step overflows; try "
                "max_timestep=950",
                NotANumber,
                stacklevel=3,
            )


def in_batches(
    model: Generator,
    cond: Cond,
    seeds: Sequence[int],
    chunks: Sequence[Tensor],
    control: Control | None,
    given: Tokens | None,
    tokens: int | Stop | None,
    speculate: Speculation | None,
    progress: Callable[[int, int], None] | None,
    watch: Callable[[Tensor, DrawingStep], None] | None,
) -> Drawings:
    """Draw pictures batch after batch, and return them in the order of their numbers.

    Args:
        model: The generator.
        cond: The condition, a row per picture.
        seeds: One per picture.
        chunks: Numbers (B,) of the pictures of each batch.
        control: As in `Generator.generate`, like all that follow.
        given: As there.
        tokens: As there.
        speculate: As there.
        progress: As there.
        watch: As there.
    """
    clips, done = list[Drawings](), 0
    for number, index in enumerate(chunks):
        some, rows, step = None if given is None else given.select(index), cond.select(index), None
        own = [seeds[i] for i in index.tolist()]
        for step in model.stream(rows, own, control, some, tokens=tokens, speculate=speculate):
            if watch:
                watch(index, step)
            if progress:
                steps = len(step.run.plan)
                progress(done + step.k + 1, done + steps * (len(chunks) - number))
        assert step is not None
        warn_not_finite(model, step.run)
        done += step.run.k
        if progress and step.run.k < len(step.run.plan):
            progress(done, done + len(step.run.plan) * (len(chunks) - number - 1))
        clips.append(step.preview())
    order = torch.cat([*chunks]).argsort(stable=True)
    counts = torch.cat([each.token_counts for each in clips])[order]
    return Drawings.of(torch.cat([*clips])[order], counts, seeds, fps=model.fps)
