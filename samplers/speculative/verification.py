"""Verification of drafts that one network call has read: which of them a run commits, and what instead of the others.

All samples of a batch go on together, and a rank of a plan may have several tokens. Both are treated alike: the drafts
of a rank are used only if every token of the rank before it was kept, in all samples. Drafts of later ranks are not
tested at all, so they may serve again (`sjd`). No sample's law depends on the others, but what it draws does.

Shapes: B samples, m positions of a rank, g drafts of a chain, V codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Proposal, Run
from arzoo.samplers.speculative.base import Ready
from arzoo.samplers.speculative.chain import Verdict, block, chain, kept_of_block, law

Rule = Callable[[Proposal, Tensor, Tensor, Tensor], Verdict]
"""`rule(proposal, p, q, codes)`, as `chain.chain` and with what the network says."""


def _exact(proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    return chain(p, q, codes)


def law_of(proposal: Proposal) -> Tensor:
    """Law (B, m, V) from which the head draws the codes of a step, in float64."""
    log_probs = proposal.head.log_probs(proposal.predict, proposal.settings)
    if not proposal.settings.greedy:
        return law(log_probs.double().exp())
    codes = proposal.sample(Draws([0] * len(log_probs)))  # the likeliest, whatever the noise
    assert isinstance(codes, Tensor)
    return F.one_hot(codes, log_probs.shape[-1]).double()


def settled(run: Run, group: Tensor) -> Tensor:
    """(B, m) bool, tokens of a group that are given, or that nobody needs as the sample has ended."""
    ended = run.tokens.length < run.tokens.values.shape[1]
    return run.tokens.given.gather(1, group.expand(len(ended), -1)) | ended[:, None]


@dataclass
class Drafts:
    """Drafts of steps that were not drawn yet.

    Attributes:
        tokens: A canvas with the drafts.
        laws: (B, m, V) by step, the law that its draft was drawn from.
    """

    tokens: Tokens
    laws: dict[int, Tensor] = field(default_factory=dict)

    def put(self, k: int, group: Tensor, values: Tensor, drawn_from: Tensor) -> None:
        """Draft a step; given tokens stay."""
        self.tokens.commit(group, values, group)
        self.laws[k] = drawn_from

    def guess(self, k: int, group: Tensor, codes: int) -> None:
        """Let what stands on the canvas be the draft of a step: a law with all mass at it."""
        self.laws[k] = F.one_hot(self.tokens.at(group), codes).double()


@dataclass
class Window:
    """Steps that one call has read.

    Attributes:
        run: The run, before the first of these steps.
        proposals: By step; none where the group is given.
        drafts: What was fed for them. The last step may be without: it is drawn then.
        streams: Randomness of each step in this call, of which the drafts may have taken a part.
    """

    run: Run
    last: int
    proposals: dict[int, Proposal]
    drafts: Drafts
    streams: dict[int, Draws]

    def __post_init__(self) -> None:
        self.laws = {k: law_of(proposal) for k, proposal in self.proposals.items()}

    def _settled(self, group: Tensor) -> Tensor:
        return settled(self.run, group)

    def chain(self, verdict: Rule = _exact) -> list[Ready]:
        """Commit steps until a token was replaced, each tested with laws of its own (`chain.chain`)."""
        ready: list[Ready] = []
        for k in range(self.run.k, self.last):
            proposal, drawn_from = self.proposals.get(k), self.drafts.laws.get(k)
            if proposal is None:
                ready.append((None, None))
                continue
            if drawn_from is None:
                ready.append((proposal, self.streams[k].categorical(self.laws[k])))
                break
            group = self.run.plan.groups[k]
            codes = self.drafts.tokens.at(group)[..., None]
            judged = verdict(proposal, self.laws[k], drawn_from, codes)
            values, index = judged.choose(codes, self.streams[k])
            ready.append((proposal, values))
            if not bool(((index == 0) | self._settled(group)).all()):
                break
        return ready

    def block(self) -> list[Ready]:
        """Commit steps until a token was replaced, all tested together (`chain.block`).

        The tokens of a rank do not depend on each other, so they are links of the chain like any others; those after a
        replaced one are drawn.
        """
        run, groups = self.run, self.run.plan.groups
        tested = [k for k in self.proposals if k in self.drafts.laws]
        kept = torch.zeros(run.state.batch, dtype=torch.long, device=run.tokens.values.device)
        rest, codes = {}, {k: self.drafts.tokens.at(groups[k]) for k in tested}
        sizes = [groups[k].shape[1] for k in tested]
        if tested:
            settled = torch.cat([self._settled(groups[k]) for k in tested], 1)[..., None]
            chained = torch.cat([codes[k] for k in tested], 1)
            p, q = (torch.cat([laws[k] for k in tested], 1) for laws in (self.laws, self.drafts.laws))
            same = F.one_hot(chained, p.shape[-1]).double()
            verdict = block(torch.where(settled, same, p), torch.where(settled, same, q), chained)
            kept = kept_of_block(verdict, self.streams[tested[0]])
            rest = dict(zip(tested, verdict.rest.split(sizes, 1), strict=True))
        ready, first = list[Ready](), 0
        for k in range(run.k, self.last):
            proposal = self.proposals.get(k)
            if proposal is None:
                ready.append((None, None))
                continue
            if k not in codes:
                ready.append((proposal, self.streams[k].categorical(self.laws[k])))
                break
            link = torch.arange(first, first + groups[k].shape[1], device=kept.device)
            replaced = (link == kept[:, None])[..., None]
            drawn = self.streams[k].categorical(torch.where(replaced, rest[k], self.laws[k]))
            ready.append((proposal, torch.where(link < kept[:, None], codes[k], drawn)))
            first += len(link)
            if not bool((kept >= first).all()):
                break
        return ready
