"""Speculative Jacobi decoding: the model drafts several steps for itself, with the law of the plain loop.

"Accelerating Auto-regressive Text-to-Image Generation with Training-free Speculative Jacobi Decoding" (2024). One call
reads a window of steps from drafts; the drafts are kept or replaced as in speculative decoding, with the law that each
was drawn from, which is that of the call before. Steps after a replaced token were not tested: they are drafted again
from what the call says of them. Three rules make the result exact: a draft is judged by the very law that it was drawn
from; it is tested once; and a new draft depends on the old one only through a coupling of their two laws.

Coupled drafts stay the same where they can, so that contexts settle ("MC-SJD", 2025, sections 4.1 and 4.2): `maximal`
keeps an old draft as often as any coupling may, `gumbel` draws all drafts of a position with the same noise. Fresh
drafts are those of the first paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from arzoo.base.config import checked, whole_number
from arzoo.base.registry import register
from arzoo.samplers.loop import Model, Proposal, Run
from arzoo.samplers.speculative.base import (
    Load,
    Ready,
    Speculation,
    count_of,
    guess,
    read_ahead,
    streams,
    window_end,
)
from arzoo.samplers.speculative.chain import Verdict, chain
from arzoo.samplers.speculative.verification import Drafts, Window

Coupling = Literal["none", "maximal", "gumbel"]


@dataclass(frozen=True)
class SpeculativeJacobi(Speculation):
    """Keep what an earlier call drafted with the probability that the law stays that of the plain loop.

    Attributes:
        window: Steps in one call, at least 1.
        coupling: How a new draft of a position depends on the old one. "gumbel" needs runs that draw with Gumbel noise
            (`Draws(gumbel=True)`), as those of `Generator.generate(speculate=)` do.

    Raises:
        ArzooError: The window is not a number of steps, or there is no such coupling.
    """

    window: int = 16
    coupling: Coupling = "none"

    lockstep, enumerates = True, True

    def __post_init__(self) -> None:
        whole_number(self.window, "window of speculative Jacobi decoding (steps in one call)", least=1)
        checked(self.coupling, Coupling, "coupling")

    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """As `Speculation.calls`."""
        groups, drafts = run.plan.groups, Drafts(run.tokens.copy())
        guessed = run.k
        while run.k < len(groups):
            last = window_end(run, self.window)
            guesses = range(max(guessed, run.k), last - 1)  # nothing has been fed for the last step
            for k in guesses:
                guess(drafts.tokens, groups[k], run.plan)
            guessed = max(guessed, last)
            noise = streams(run, last)
            proposals = read_ahead(model, run, drafts.tokens, last)
            window = Window(run, last, proposals, drafts, noise)
            for k in guesses:
                if k in window.laws:
                    drafts.guess(k, groups[k], window.laws[k].shape[-1])
            ready = window.chain(self.verdict)
            for k, (_, committed) in enumerate(ready, run.k):
                if committed is not None:
                    drafts.tokens.commit(groups[k], committed, groups[k])
            for k in range(run.k + len(ready), last):
                if k in proposals:
                    drafts.put(k, groups[k], self._again(k, window), window.laws[k])
            yield ready

    def verdict(self, proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
        """Judge the drafts (B, m, 1) of a step: p and q (B, m, V) are its law and that of the drafts."""
        return chain(p, q, codes)

    def _again(self, k: int, window: Window) -> Tensor:
        """Draft a step anew, (B, m), from what the last call says of it."""
        new, old = window.laws[k], window.drafts.laws.get(k)
        if self.coupling == "gumbel":
            return window.run.draws.at(k).categorical(new)
        if self.coupling == "none" or old is None:
            return window.streams[k].categorical(new)
        codes = window.drafts.tokens.at(window.run.plan.groups[k])[..., None]
        return chain(new, old, codes).choose(codes, window.streams[k])[0]


@register("speculation", "sjd")
def read_sjd(settings: str, load: Load) -> SpeculativeJacobi:
    """sjd:WINDOW, the law of the plain loop: the model tests its own drafts, and drafts again after a wrong one."""
    return SpeculativeJacobi(count_of(settings, "sjd:16"))


@register("speculation", "coupled")
def read_coupled(settings: str, load: Load) -> SpeculativeJacobi:
    """coupled:WINDOW, as sjd, with new drafts drawn by the noise of the old ones, so that most stay as they are."""
    return SpeculativeJacobi(count_of(settings, "coupled:16"), "gumbel")
