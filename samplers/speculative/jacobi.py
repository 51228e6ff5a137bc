"""Jacobi iteration with the noise of the run: the tokens of the plain loop in fewer network calls.

"Predictive Sampling with Forecasting Autoregressive Models" (2020), section 2.2. A step draws its tokens from a
function of the tokens before it and of its own noise, which `Draws.at` knows before the step is reached. So tokens of
several steps are guessed, one call reads all of these steps, and each is drawn again with its noise. The first is
right; so is every one after it whose earlier guesses came out as they were guessed. Those are committed, the others
are the next guesses. No step is ever accepted wrongly, whatever the window, the batch or the guesses.

`Draws(..., gumbel=True)` makes this fast: with shared noise most draws survive a small change of their probabilities.
A pass over many steps rounds otherwise than one over a single step, which may turn a near tie; the tests compare
tokens in float32 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Backbone, Head, Read, State
from arzoo.core.plan import COND, Plan
from arzoo.core.tokens import Tokens
from arzoo.samplers.guidance import guided
from arzoo.samplers.loop import Model, Proposal, Run, Step, commit, proposal_of


def cannot_draw_ahead(backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> str:
    """Why several steps of a model cannot be drawn in one call; empty if they can.

    Args:
        backbone: The network.
        plan: The order.
        heads: One per stage.
    """
    name = type(backbone).__name__
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
    if backbone.recurrent:
        return f"{name} keeps a summary of what it has read, from which wrong guesses cannot be taken back"
    if not backbone.windowed:
        return f"{name} reads one step in a call (it has no `window`)"
    for head in heads:
        if not head.discrete:
            return (
                f"head {type(head).__name__} draws vectors, and a vector drawn again after the slightest change is "
                "never the same"
            )
    return ""


def require_ahead(window: int, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
    """Check that several steps of a model can be drawn in one call.

    Raises:
        ArzooError: They cannot, or the window is not a number of steps.
    """
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ArzooError(f"window must be a whole number of steps from 1 on, got {window!r}")
    if reason := cannot_draw_ahead(backbone, plan, heads):
        raise ArzooError(
            f"Jacobi iteration draws several steps in one call, which this model does not allow: {reason}. Draw it "
            "without, or choose a model of codes that feeds every token once, such as raster_emoji64."
        )


@torch.no_grad()
def jacobi(
    model: Model, run: Run, window: int, stop: Callable[[Run], Tensor] | None = None
) -> Iterator[Step]:
    """Commit group after group, as `loop.generate` does and with the same tokens, several in one network call.

    Args:
        model: Backbone and heads.
        run: The run to continue; it is changed in place. Between steps it can be forked like any other.
        window: Steps in one call, at least 1; 1 is the plain loop.
        stop: As in `loop.generate`.

    Yields:
        One `Step` per group.

    Raises:
        ArzooError: The model cannot read several steps at once, or the window is no number of steps.
    """
    require_ahead(window, model.backbone, run.plan, model.heads)
    plan, guesses, guessed = run.plan, run.tokens.copy(), run.k
    while run.k < len(plan):
        last = min(run.k + window, len(plan))
        if run.state.complete(run.k) or not run.todo[run.k]:
            last = run.k + 1  # it takes no pass
        for k in range(max(guessed, run.k), last):
            _guess(guesses, plan.groups[k], plan)
        guessed = max(guessed, last)
        ready = _draw(model, run, guesses, last) if run.todo[run.k] else [(None, None)]
        # The last of them is right, but what was fed in its place need not be.
        state = run.state.rewind(run.k + len(ready) - 1)
        for proposal, values in ready:
            run.state = state.rewind(run.k)
            yield commit(run, plan.groups[run.k], proposal, values)
            if stop is not None and run.tokens.finish(stop(run), plan.committed(run.k)):
                return
        run.state = state


def _guess(tokens: Tokens, group: Tensor, plan: Plan) -> None:
    """Guess that a token equals the one that predicts it, if any; any guess will do."""
    source = plan.source(group)
    source = source.where(source < plan.layout.size, COND).amax(-1).clamp(min=0)
    tokens.commit(group, tokens.at(source), group)


def _draw(model: Model, run: Run, guesses: Tokens, last: int) -> list[tuple[Proposal | None, Tensor | None]]:
    """Read and draw the steps from the next one to last - 1 from guesses, which the draws replace.

    Returns:
        What `commit` takes, for the leading steps whose draws are those of the plain loop: at least one.
    """
    run.calls += 1
    reads = enumerate(model.backbone.window(run.state, guesses, run.k, last), run.k)
    proposals = {k: proposal_of(model, run, k, read) for k, read in reads if run.todo[k]}
    _predict_together(list(proposals.values()), run.state)
    steps, same = list[tuple[Proposal | None, Tensor | None]](), list[Tensor]()
    for k in range(run.k, last):
        group, proposal, values = run.plan.groups[k], proposals.get(k), None
        before = guesses.at(group)
        if proposal is not None:
            values = proposal.sample(run.draws.at(k))
            guesses.commit(group, values, proposal.read.positions)
        steps.append((proposal, values))
        same.append((guesses.at(group) == before).all())
    return steps[: _right(torch.stack(same))]


def _predict_together(proposals: Sequence[Proposal], state: State) -> None:
    """Predict neighbouring steps with one product, where a head predicts every position alone and just once."""
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


def _right(same: Tensor) -> int:
    """Number of leading steps drawn from right tokens, by whether (K,) each came out as guessed in all samples."""
    return 1 + int(same[:-1].cumprod(0).sum())
