"""The sampling loop, which all methods and the command line share: `start`, `propose` and `generate`.

A `Run` is a value, not a frame of a Python generator, so that search can fork it between steps. The loop never waits
for a device: `start` decides once which groups are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head, Predict, Read
from arzoo.core.control import Control, Settings
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.readouts import average_readouts
from arzoo.core.state import State
from arzoo.core.tokens import Mixed, Tokens, gather_positions
from arzoo.samplers.confidence import surest
from arzoo.samplers.guidance import guided
from arzoo.samplers.schedules import Stored


class Model(Protocol):
    """The parts that the loop uses: a backbone and one head per stage of the plan."""

    @property
    def backbone(self) -> Backbone:
        """The backbone."""

    @property
    def heads(self) -> Sequence[Head]:
        """One head per stage."""


@dataclass(frozen=True)
class Drawn:
    """A group that was drawn, and what it was drawn from.

    Attributes:
        k: Its step.
        group: (1 or B, m) its positions.
        read: What the backbone read before it, in the conditional rows.
    """

    k: int
    group: Tensor
    read: Read

    @property
    def features(self) -> Tensor | None:
        """(B, m, D) of the group, averaged over readouts; None if the backbone itself is the denoiser."""
        if self.read.features is None:
            return None
        features, positions = average_readouts(self.read), self.read.positions
        if positions is self.group:
            return features
        batch = len(features)
        match = positions.expand(batch, -1)[:, None] == self.group.expand(batch, -1)[:, :, None]
        return gather_positions(features, match.int().argmax(2))

    def select(self, index: Tensor) -> Drawn:
        """Copy some samples."""
        group, positions, available = (
            x if x is None or len(x) == 1 else x[index]
            for x in (self.group, self.read.positions, self.read.available)
        )
        assert group is not None
        assert positions is not None
        features = None if self.read.features is None else self.read.features[index]
        return Drawn(self.k, group, Read(positions, features, available))

    @staticmethod
    def joined(parts: Sequence[Drawn | None]) -> Drawn | None:
        """Groups of the same step of several runs; None if one has none."""
        known = [part for part in parts if part is not None and part.features is not None]
        if len(known) < len(parts):
            return None
        features = [part.features for part in known if part.features is not None]
        group = torch.cat([p.group.expand(len(x), -1) for p, x in zip(known, features, strict=True)])
        return Drawn(known[0].k, group, Read(group, torch.cat(features)[:, :, None]))


@dataclass
class Run:
    """The state of a batch during generation.

    Attributes:
        tokens: The canvas.
        state: Memory of the backbone.
        plan: The order of generation.
        controls: One `Control` per stage.
        draws: Randomness of the samples.
        todo: For each step, whether there are tokens to draw (False: the whole group is given).
        k: The next step.
        passes: Passes of the network over the batch so far, where a search counts calls per sample (`Counts`); that
            over the condition, from which the first step is read, is one with it.
        draft_passes: Those of another network that drafts tokens for this run.
        last: The last group that was drawn; None before the first one.
    """

    tokens: Tokens
    state: State
    plan: Plan
    controls: Sequence[Control]
    draws: Draws
    todo: tuple[bool, ...]
    k: int = 0
    passes: int = 0
    draft_passes: int = 0
    last: Drawn | None = None

    def select(self, index: Tensor, seeds: Sequence[int] | None = None) -> Run:
        """Fork: copy some samples, independent of this run. Repeated rows need new seeds to differ."""
        return replace(
            self,
            tokens=self.tokens.select(index),
            state=self.state.select(index),
            plan=self.plan.select(index),
            draws=self.draws.select(index.tolist(), seeds),
            last=None if self.last is None else self.last.select(index),
        )


@dataclass
class Proposal:
    """Group k after it was read and before it is drawn, for search, likelihood verifiers and tests.

    The group of a plan that is `confident` is decided by `draw`; until then `group` says only how large it is.
    """

    k: int
    group: Tensor
    read: Read
    head: Head
    settings: Settings
    predict: Predict

    @torch.no_grad()
    def sample(self, draws: Draws) -> Tensor | Mixed:
        """Draw tokens at the positions of the Read."""
        return self.head.sample(self.predict, self.read, self.settings, draws)

    @torch.no_grad()
    def sample_scored(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Draw tokens at the positions of the Read, and score (B, m) how sure the model is of each.

        As in "MaskGIT", 2022, section 3.2, the scores have Gumbel noise, with the temperature of the draw.
        """
        values, scores = self.head.sample_scored(self.predict, self.read, self.settings, draws)
        if not self.settings.greedy:
            noise = -(-draws.uniform(scores.shape).log()).log()
            scores = scores + self.settings.temperature * noise.to(scores.device)
        return values, scores


@dataclass
class Step:
    """One committed group; `proposal` is None if the group was given."""

    k: int
    group: Tensor
    run: Run
    proposal: Proposal | None


def check_settings(model: Model, plan: Plan, controls: Sequence[Control]) -> list[Settings]:
    """Evaluate and check the settings of every step, so that errors appear before the run instead of during it.

    Args:
        model: Backbone and heads.
        plan: The order of generation.
        controls: One per stage.

    Raises:
        ArzooError: A head cannot draw with the settings of some step.
    """
    for control in controls:
        for name, knob in vars(control).items():
            if isinstance(knob, Stored) and knob.name == "by_stage" and plan.stages != 2:
                raise ArzooError(
                    f"{name} has a value for each of two stages, and plan {plan.name!r} has {plan.stages}: give one"
                )
    by_step = [controls[s].at(plan.progress(k)) for k, s in enumerate(plan.stage)]
    for settings, s in zip(by_step, plan.stage, strict=True):
        head = model.heads[s]
        if settings.interval is not None and not head.solves:
            raise ArzooError(
                f"guidance is limited to shares of noise {settings.interval}, but head {called(head)} draws "
                "without noise. Leave interval out; a schedule of guidance limits it to a part of the run."
            )
        if settings.head_window > 1 and "head_window" not in head.active_knobs(settings.solver):
            chosen = f" with solver {settings.solver!r}" if settings.solver else ""
            raise ArzooError(
                f"head_window {settings.head_window} drafts the noise of denoising steps, which head "
                f"{called(head)}{chosen} cannot do. Leave it out, or choose head diffusion_mlp with solver 'ddpm'."
            )
        if settings.more_smooth is not None and not (model.backbone.reads_canvas and head.mixes):
            raise ArzooError(
                f"more_smooth mixes the vectors of codes, and backbone {called(model.backbone)} with head "
                f"{called(head)} cannot be fed mixtures. Leave it out, or take a model of the family var."
            )
        head.evaluations(settings)
    return by_step


def must_be_given(plan: Plan, given: Tensor | None = None) -> str:
    """Message about positions that a plan cannot draw; empty if there are none.

    Args:
        plan: The order of generation.
        given: (B, N) bool, positions that have a value already; a picture's, whatever canvas the plan orders, if the
            plan draws all its positions.
    """
    missing = plan.unsourced.cpu()
    if given is not None and missing.any():
        missing = missing & ~given.cpu()
    positions = missing.any(0).nonzero()[:, 0].tolist()
    if not positions:
        return ""
    return (
        f"plan {plan.name!r} predicts {len(positions)} of its {plan.layout.size} positions ({positions[0]} to "
        f"{positions[-1]}) from nothing, so their tokens have to be given: in Python with generate(..., given=), on "
        "the command line with --init PICTURE --keep REGION. Or choose another plan or other options of it."
    )


def _check_counts(classes: int, plan: Plan, cond: Cond, tokens: Tokens, draws: Draws) -> None:
    batch, positions = tokens.values.shape[:2]
    if not cond.batch == batch == draws.batch:
        raise ArzooError(
            f"condition, canvas and seeds must agree: {cond.batch}, {batch} and {draws.batch} samples"
        )
    if plan.layout.size != positions or len(plan.slot_rank) not in (1, batch):
        raise ArzooError(
            f"plan {plan.name!r} orders {plan.layout.size} positions of {len(plan.slot_rank)} samples, the canvas has "
            f"{positions} positions of {batch} samples; build the plan for this canvas and these seeds"
        )
    if cond.label is not None and classes and batch and int(cond.label.max()) >= classes:
        raise ArzooError(
            f"label {int(cond.label.max())} is no class of the model, which has {classes} classes, 0 to {classes - 1}; "
            "a negative label means no class"
        )


@torch.no_grad()
def start(
    model: Model,
    plan: Plan,
    cond: Cond,
    controls: Control | Sequence[Control],
    tokens: Tokens,
    draws: Draws,
    branches: int | None = None,
) -> Run:
    """Prepare a run.

    Args:
        model: Backbone and heads.
        plan: The order of generation.
        cond: Condition of B rows.
        controls: One for all stages, or one per stage.
        tokens: The canvas; its given positions stay.
        draws: Randomness, B seeds.
        branches: Rows per sample, 1 or 2; by default 2 if the guidance of any step differs from 1.

    Raises:
        ArzooError: Batch sizes, positions or the numbers of stages, heads and controls do not agree, a label is not a
            class of the model, a head cannot draw with the settings of some step, or a position has no source and is
            not given.
    """
    controls = [controls] * plan.stages if isinstance(controls, Control) else list(controls)
    for control in controls:
        if not isinstance(control, Control):
            raise ArzooError(f"knobs must be a Control, such as Control(temperature=0.9), got {control!r}")
    if not len(controls) == plan.stages <= len(model.heads):
        raise ArzooError(
            f"the plan has {plan.stages} stages, {len(controls)} controls and {len(model.heads)} heads"
        )
    _check_counts(model.backbone.config.classes, plan, cond, tokens, draws)
    if missing := must_be_given(plan, tokens.given):
        raise ArzooError(missing)
    by_step = check_settings(model, plan, controls)
    if branches is None:
        branches = 2 if any(settings.guidance != 1 for settings in by_step) else 1
    given = tokens.given.cpu()
    fresh = torch.stack([(~given.gather(1, g.cpu().expand(cond.batch, -1))).sum(1) for g in plan.groups])
    given_by_step = (fresh.amin(1) < torch.tensor([g.shape[1] for g in plan.groups])).tolist()
    known = given.sum(1) + fresh.cumsum(0) - fresh  # (K, B), before each step
    if plan.confident:  # known tokens count first, whatever their rank
        committed = torch.tensor([plan.committed(k) for k in range(len(plan) + 1)])[:, None].maximum(
            given.sum(1)
        )
        known, fresh = committed[:-1], committed.diff(dim=0)
    plan = plan.to(tokens.values.device)
    state = model.backbone.start(cond, plan, branches)
    state.counts = list(zip(known.amin(1).tolist(), known.amax(1).tolist(), strict=True))
    state.given = given_by_step
    return Run(tokens, state, plan, controls, draws, todo=tuple(fresh.any(1).tolist()))


@torch.no_grad()
def propose(model: Model, run: Run) -> Proposal:
    """Feed the committed tokens and read the next group, without drawing it."""
    run.passes += 1
    return proposal_of(model, run, run.k, model.backbone.step(run.state, run.tokens, run.k))


def proposal_of(model: Model, run: Run, k: int, read: Read) -> Proposal:
    """The proposal of a step from what the backbone read for it."""
    stage = run.plan.stage[k]
    head, settings = model.heads[stage], run.controls[stage].at(run.plan.progress(k))
    read = head.prepare(read)
    return Proposal(k, run.plan.groups[k], read, head, settings, guided(head, read, settings, run.state))


@torch.no_grad()
def draw(run: Run, proposal: Proposal | None) -> tuple[Tensor, Tensor | Mixed | None]:
    """Draw the tokens of a step, and decide its group if the plan leaves that to the run.

    Args:
        run: The run; it stays as it is.
        proposal: The step's proposal; None if all its tokens are given.

    Returns:
        The group (1 or B, m), and the tokens drawn at the positions of the proposal's Read, None without a proposal.
    """
    k, plan, draws = run.k, run.plan, run.draws.at(run.k)
    if not plan.confident:
        return plan.groups[k], None if proposal is None else proposal.sample(draws)
    values, scores = None, None
    if proposal is not None:
        values, scores = proposal.sample_scored(draws)
        assert scores.shape == run.tokens.known.shape, "a backbone reads all positions of a confident plan"
    return surest(scores, run.tokens.known, plan.committed(k), plan.committed(k + 1)), values


def drawn(run: Run, proposal: Proposal, group: Tensor) -> Drawn:
    """The group of a step as what is left of its proposal."""
    read = proposal.read.conditional(len(run.tokens.values))
    return Drawn(proposal.k, group, Read(read.positions, read.features, read.available))


def commit(run: Run, group: Tensor, proposal: Proposal | None, values: Tensor | Mixed | None) -> Step:
    """Commit the group of the next step, and count the step; arguments as in `Step` and from `draw`."""
    if proposal is None or values is None:
        run.tokens.mark_known(group)
    else:
        run.tokens.commit(group, values, proposal.read.positions)
        run.last = drawn(run, proposal, group)
    run.k += 1
    return Step(run.k - 1, group, run, proposal)


@torch.no_grad()
def generate(model: Model, run: Run, stop: Callable[[Run], Tensor] | None = None) -> Iterator[Step]:
    """Commit group after group.

    Args:
        model: Backbone and heads.
        run: The run to continue; it is changed in place.
        stop: `stop(run) -> (B,) bool` ends samples early; the loop ends when all samples have.

    Yields:
        One `Step` per group.
    """
    while run.k < len(run.plan):
        proposal = propose(model, run) if run.todo[run.k] else None
        group, values = draw(run, proposal)
        yield commit(run, group, proposal, values)
        if stop is not None and run.tokens.finish(stop(run), run.plan.committed(run.k)):
            return
