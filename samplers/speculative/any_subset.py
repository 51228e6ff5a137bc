"""Any-subset speculative decoding: a network for any order drafts for itself, and never takes more calls than tokens.

"Reviving Any-Subset Autoregressive Models with Principled Parallel Sampling and Speculative Decoding" (2025), section
4. A causal network whose inputs name the position that they predict can say two things of the tokens that come next in
an order: each alone, given the known ones (a draft: one call), and each given the drafts before it (one call). Drafts
are kept or replaced as in speculative decoding. The first is always kept, because both calls say the same of it, and
the second call yields a token more, so two calls draw two tokens at least.

The draft is read from forked samples, one for each token, in which that token comes next in the order. This works with
any cached backbone of the kind, and costs a copy of the cache for each.

Shapes: B samples, N positions, V codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import called, register
from arzoo.core.contracts import Backbone, Head
from arzoo.core.plan import Plan
from arzoo.samplers.loop import Model, Run, proposal_of
from arzoo.samplers.plans.shifted import custom
from arzoo.samplers.speculative.base import (
    Load,
    Ready,
    Speculation,
    count_of,
    read_ahead,
    streams,
    window_end,
)
from arzoo.samplers.speculative.forks import of_samples
from arzoo.samplers.speculative.verification import Drafts, Window, law_of


@dataclass(frozen=True)
class AnySubset(Speculation):
    """Draft the next tokens of an order each by itself, and verify them in their order.

    Attributes:
        length: Tokens that are drafted, at least 1.

    Raises:
        ArzooError: The length is not a number of tokens.
    """

    length: int = 8

    lockstep, enumerates = True, True

    def __post_init__(self) -> None:
        whole_number(self.length, "number of tokens to draft", least=1)

    def require(self, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
        """Check that a model can be drawn in this way.

        Raises:
            ArzooError: It cannot: its inputs do not name the position that they predict, or the plan is not an order of
                single tokens.
        """
        super().require(backbone, plan, heads)
        if not backbone.any_order:
            raise ArzooError(
                "any-subset decoding reads any position after the same tokens, but backbone "
                f"{called(backbone)} cannot: its inputs do not say which position they predict. Use a backbone that "
                "can, such as RAR."
            )
        if not _is_chain(plan):
            raise ArzooError(
                f"any-subset decoding draws single tokens, each predicted by the one before it, but plan {plan.name!r} "
                "does not. Use a plan that does, such as raster or custom."
            )

    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """As `Speculation.calls`."""
        while run.k < len(run.plan):
            last = window_end(run, self.length + 1)
            noise = streams(run, last)
            drafts = Drafts(run.tokens.copy())
            ahead = [k for k in range(run.k, last - 1) if run.todo[k]]
            for k, law in _alone(model, run, ahead).items():
                drafts.put(k, run.plan.groups[k], noise[k].categorical(law), law)
            yield Window(run, last, read_ahead(model, run, drafts.tokens, last), drafts, noise).chain()


def _is_chain(plan: Plan) -> bool:
    """Whether every step has one token, which that of the step before it predicts."""
    if len(plan) != plan.layout.size or plan.extras or plan.axes > 1 or plan.sources is None:
        return False
    sources = plan.sources.expand(len(plan.slot_rank), -1, -1)
    expected = custom(plan.layout, torch.cat(plan.groups, 1)).sources
    assert expected is not None
    return torch.equal(sources, expected.to(sources.device))


def _alone(model: Model, run: Run, steps: Sequence[int]) -> dict[int, Tensor]:
    """Law (B, 1, V) of the tokens of some steps, each as if its step were the next one: one call for all of them."""
    if not steps:
        return {}
    run.passes += 1
    batch, order = run.state.batch, torch.cat(run.plan.groups, 1).expand(run.state.batch, -1)
    orders = []
    for k in steps:
        swapped = order.clone()
        swapped[:, run.k], swapped[:, k] = order[:, k], order[:, run.k]
        orders.append(swapped)
    samples = torch.arange(batch, device=order.device)
    state = run.state.select(samples.repeat(len(steps)))
    state.plan = custom(run.plan.layout, torch.cat(orders))
    tokens = run.tokens.select(samples.repeat(len(steps)))
    read = model.backbone.step(state, tokens, run.k)
    parts = {k: of_samples(read, samples + number * batch, state.batch) for number, k in enumerate(steps)}
    return {k: law_of(proposal_of(model, run, k, part)) for k, part in parts.items()}


@register("speculation", "any_subset")
def read_any_subset(settings: str, load: Load) -> AnySubset:
    """any_subset:TOKENS, the law of the plain loop: a model of any order drafts so many tokens, each by itself."""
    return AnySubset(count_of(settings, "any_subset:8"))
