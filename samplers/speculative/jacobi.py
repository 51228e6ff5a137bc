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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.registry import register
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Model, Run
from arzoo.samplers.speculative.base import (
    Load,
    Ready,
    Speculation,
    count_of,
    guess,
    read_ahead,
    window_end,
)


@dataclass(frozen=True)
class Jacobi(Speculation):
    """Draw every step of a window with its own noise until it comes out as it was guessed.

    Attributes:
        window: Steps in one call, at least 1; 1 is the plain loop.

    Raises:
        ArzooError: The window is not a number of steps.
    """

    window: int = 8

    same = True

    def __post_init__(self) -> None:
        whole_number(self.window, "window of Jacobi iteration (steps in one call)", least=1)

    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """As `Speculation.calls`."""
        plan, guesses, guessed = run.plan, run.tokens.copy(), run.k
        while run.k < len(plan):
            last = window_end(run, self.window)
            for k in range(max(guessed, run.k), last):
                guess(guesses, plan.groups[k], plan)
            guessed = max(guessed, last)
            yield _draw(model, run, guesses, last)


def _draw(model: Model, run: Run, guesses: Tokens, last: int) -> list[Ready]:
    """Read and draw the steps from the next one to last - 1 from guesses, which the draws replace.

    Returns:
        The leading steps whose draws are those of the plain loop: at least one.
    """
    proposals = read_ahead(model, run, guesses, last)
    steps, same = list[Ready](), list[Tensor]()
    for k in range(run.k, last):
        group, proposal = run.plan.groups[k], proposals.get(k)
        values: Tensor | None = None
        before = guesses.at(group)
        if proposal is not None:
            new = proposal.sample(run.draws.at(k))
            assert isinstance(new, Tensor), "no backbone that is fed mixtures has windows"
            values = new
            guesses.commit(group, values, proposal.read.positions)
        steps.append((proposal, values))
        same.append((guesses.at(group) == before).all())
    return steps[: _right(torch.stack(same))]


def _right(same: Tensor) -> int:
    """Number of leading steps drawn from right tokens, by whether (K,) each came out as guessed in all samples."""
    return 1 + int(same[:-1].cumprod(0).sum())


@register("speculation", "jacobi")
def read_jacobi(settings: str, load: Load) -> Jacobi:
    """jacobi:WINDOW, the same pictures as jacobi:1: each step is drawn again with its own noise until it stays."""
    return Jacobi(count_of(settings, "jacobi:8"))
