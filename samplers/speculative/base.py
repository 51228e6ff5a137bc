"""Speculation: the base of all methods that draw several steps of a plan with one call of the network."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.draws import Draws
from arzoo.core.plan import COND, Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens
from arzoo.samplers.guidance import guided
from arzoo.samplers.loop import Model, Proposal, Run, Step, commit, proposal_of

Ready = tuple[Proposal | None, Tensor | None]
"""A step that was read and drawn, as `loop.commit` takes it."""
Load = Callable[[str], Model]
"""Reads a generator by the name of its checkpoint."""


class Speculation(ABC):
    """A way to draw several steps with one call; subclasses are frozen dataclasses of its settings.

    Attributes:
        exact: The tokens have the law of the plain loop.
        same: They are the very tokens of the plain loop with the same noise.
        lockstep: What a sample draws depends on its batch, whose samples wait for each other. The law does not.
        enumerates: It needs the probability of every code, so heads must be able to tell it (`Head.enumerates`).
        drafter: Another generator that drafts; None if the model drafts for itself.
    """

    exact: ClassVar[bool] = True
    same: ClassVar[bool] = False
    lockstep: ClassVar[bool] = False
    enumerates: ClassVar[bool] = False
    drafter: Model | None = None

    def require(self, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
        """Check that a model can be drawn in this way.

        Raises:
            ArzooError: It cannot.
        """
        if reason := cannot_draw_ahead(backbone, plan, heads, self.enumerates):
            raise ArzooError(
                f"{called(self)} draws several steps in one call, which this model does not allow: {reason}. "
                "Draw it without, or choose a model of codes that feeds every token once, such as raster_emoji64."
            )

    @torch.no_grad()
    def draw(self, model: Model, run: Run, stop: Callable[[Run], Tensor] | None = None) -> Iterator[Step]:
        """Commit group after group as `loop.generate` does, with the same arguments, in fewer network calls.

        Raises:
            ArzooError: As `require`.
        """
        self.require(model.backbone, run.plan, model.heads)
        for ready in self.calls(model, run):
            if (yield from _commit(run, ready, stop)):
                return

    @abstractmethod
    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """Read and draw the next steps of a run, call after call; between two of them they are committed.

        Yields:
            The next steps, at least one. The state of the run was fed guesses of these and perhaps of later steps; what
            was fed for the last of them need not be right.
        """


def cannot_draw_ahead(backbone: Backbone, plan: Plan, heads: Sequence[Head], enumerates: bool = False) -> str:
    """Why several steps of a model cannot be drawn in one call; empty if they can.

    Args:
        backbone: The network.
        plan: The order.
        heads: One per stage.
        enumerates: The method needs the probability of every code.
    """
    name = f"backbone {called(backbone)}"
    if plan.confident:
        return (
            f"plan {plan.name!r} chooses the positions of a step after it has drawn all of them, so nothing is known "
            "of the steps that follow"
        )
    if backbone.bidirectional:
        return f"{name} reads all tokens anew in every step, so each further token changes what it says of all others"
    if plan.readout != "shifted":
        return (
            f"plan {plan.name!r} reads a step with inputs made for this step (readout {plan.readout!r}), so one pass "
            "does not read several"
        )
    if backbone.recurrent and not backbone.windowed:
        return f"{name} keeps a summary of what it has read, from which wrong guesses cannot be taken back"
    if not backbone.windowed:
        return f"{name} reads one step in a call (it has no `window`)"
    for head in heads:
        if not head.discrete:
            return (
                f"head {called(head)} draws vectors, and a vector drawn again after the slightest change is "
                "never the same"
            )
        if enumerates and not head.enumerates:
            return f"head {called(head)} does not tell the probability of every token"
    return ""


def _commit(
    run: Run, ready: Sequence[Ready], stop: Callable[[Run], Tensor] | None
) -> Generator[Step, None, bool]:
    """Commit steps that one call has read, one after another; between them the run can be forked.

    Returns:
        Whether every sample has ended.
    """
    state = run.state.rewind(run.k + len(ready) - 1)
    for proposal, values in ready:
        run.state = state.rewind(run.k)
        yield commit(run, run.plan.groups[run.k], proposal, values)
        if stop is not None and run.tokens.finish(stop(run), run.plan.committed(run.k)):
            return True
    run.state = state
    return False


def window_end(run: Run, window: int) -> int:
    """The step after the last one that a call reads with a window of so many steps."""
    if run.state.complete(run.k) or not run.todo[run.k]:
        return run.k + 1  # it takes no pass
    return min(run.k + window, len(run.plan))


def streams(run: Run, last: int) -> dict[int, Draws]:
    """Randomness of the steps from the next one to last - 1, which no other call of the run shares."""
    return {k: run.draws.at(k, run.passes + 1) for k in range(run.k, last)}


def guess(tokens: Tokens, group: Tensor, plan: Plan) -> None:
    """Write a first guess on a canvas: that a token equals the one that predicts it, if any. Any guess will do."""
    source = plan.source(group)
    source = source.where(source < plan.layout.size, COND).amax(-1).clamp(min=0)
    tokens.commit(group, tokens.at(source), group)


def read_ahead(model: Model, run: Run, guesses: Tokens, last: int) -> dict[int, Proposal]:
    """Read the steps from the next one to last - 1 with one call, as if the guesses for them were right.

    Returns:
        The proposals by step, without those of groups that are given; if that of the next step is, it takes no call.
    """
    if not run.todo[run.k]:
        return {}
    run.passes += 1
    reads = enumerate(model.backbone.window(run.state, guesses, run.k, last), run.k)
    proposals = {k: proposal_of(model, run, k, read) for k, read in reads if run.todo[k]}
    _predict_together(list(proposals.values()), run.state)
    return proposals


def _predict_together(proposals: Sequence[Proposal], state: State) -> None:
    """Predict neighboring steps with one product, where a head predicts every position alone and just once."""
    for (_, alone, _), some in groupby(
        proposals, lambda p: (id(p.head), p.head.enumerates, p.settings.guidance)
    ):
        if not alone or len(steps := list(some)) == 1:
            continue
        reads = [step.read for step in steps]
        available = [read.available for read in reads if read.available is not None]
        read = Read(
            torch.cat([read.positions for read in reads], 1),
            torch.cat([read.features for read in reads if read.features is not None], 1),
            torch.cat(available, 1) if available else None,
        )
        logits = guided(steps[0].head, read, steps[0].settings, state)()
        for step, part in zip(
            steps, logits.split([read.positions.shape[1] for read in reads], 1), strict=True
        ):
            step.predict = part.clone  # the filters overwrite logits


def count_of(text: str, form: str, of: str = "steps") -> int:
    """A number in the settings of a method.

    Args:
        text: What was typed for it.
        form: How the whole is typed, for the message.
        of: What it counts, for the message.

    Raises:
        ArzooError: It is not a number from 1 on.
    """
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise ArzooError(f"{text!r} must be a number of {of} from 1 on, as in {form}")
    return int(text)
