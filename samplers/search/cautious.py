"""Cautious drawing: several trials where the model is unsure of the next token.

"Cautious Next Token Prediction", 2025. Its rule for texts is changed in three places:

* There a token has as many trials as its entropy says, 1 below 0.01 nats and 40 above 1.5. Image tokens have 5 to 8
  nats, so all would have 40: here the uncertain tokens are those in the upper quantile of the entropies so far.
* There a trial ends at a punctuation mark; here after some steps of the plan, by default about the root of their
  number, a row of a square grid.
* There the trial of the lowest perplexity is kept; in a picture that is the flattest one, so here a verifier decides.
  With the verifier `likelihood` it is the published rule.

Trials begin with different tokens (drawn without replacement, where a step has one code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.samplers.loop import Proposal, Run
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Counts, Work
from arzoo.samplers.search.lengths import linear, to_the_end
from arzoo.samplers.search.pool import added, advance, entropy, read, spread, take
from arzoo.samplers.search.result import Comparison, Job, Result, best


@register("search_method", "cautious")
@dataclass(frozen=True)
class Cautious(Search):
    """Draw one sample; from a token of high entropy on draw several trials up to the next length, and keep the best.

    Heads that know no probabilities (vectors, several codebooks) have no entropy: every stretch between two lengths is
    tried from its first token on. The law becomes sharper than that of the model.

    A budget lowers the number of trials; without trials it is plain drawing.

    Attributes:
        trials: Trials from an uncertain token on.
        share: Share of the tokens that are uncertain: those whose entropy is in the upper quantile of the entropies of
            the sample so far.
        lengths: After how many steps of the plan trials end; the last is all steps.

    Raises:
        ArzooError: There are fewer than 2 trials, or the share is not above 0 and at most 1.
    """

    trials: int = 8
    share: float = 0.25
    lengths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        whole_number(self.trials, "trials", least=2)
        if not 0 < self.share <= 1:
            raise ArzooError(f"the share of uncertain tokens is above 0 and at most 1, got {self.share!r}")

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`: every stretch is tried from its first token on."""
        cost, step, steps = work.showing(1), first, len(work.network)
        for length in self._lengths(steps, first):
            k = next((k for k in range(step, length) if work.drawn[k]), None)
            if k is not None:
                cost += work.drawing(k, k + 1, 1) + self._trying(work, k, length, self.trials)
            elif length == steps:
                cost += work.judging(1)
            step = length
        return cost

    def _lengths(self, steps: int, first: int) -> tuple[int, ...]:
        lengths = linear(steps, math.isqrt(steps)) if self.lengths is None else self.lengths
        return to_the_end(lengths, steps, first)

    def _trying(self, work: Work, step: int, length: int, trials: int) -> Counts:
        """Counts of trials from a step on, which was read."""
        drawing = work.alternatives(step, 1, trials) + work.drawing(step + 1, length, trials)
        return drawing + work.judging(trials)

    def _rest(self, work: Work, length: int) -> Counts:
        """Counts of drawing and scoring one sample from a length on."""
        steps = len(work.network)
        return work.drawing(length, steps, 1) + work.judging(int(length < steps)) + work.showing(1)

    def search(self, job: Job) -> Result:
        """Search.

        Raises:
            ArzooError: Also if the lengths are not those of the plan, or a step has fewer codes than trials.
        """
        sample, steps, stopped = _Sample(job), len(job.run.plan), ""
        job.meter.refuse(self._rest(job.work, job.run.k), "use a plan of fewer steps")
        for length in self._lengths(steps, job.run.k):
            while sample.run.k < length:
                proposal = sample.read()
                if proposal is None or not sample.unsure(proposal, self.share):
                    sample.take(proposal)
                    continue
                trials, limit = self._trials(job, proposal.k, length)
                stopped = stopped or limit
                if trials > 1:
                    sample.split(proposal, length, trials)
                else:
                    sample.take(proposal)
        if not sample.history or sample.history[-1].steps < steps:
            sample.compare(sample.run, sample.since)
        last = sample.history[-1]
        return job.result(last.kept, last.tokens, sample.pictures, last.scores, sample.history, stopped)

    def _trials(self, job: Job, step: int, length: int) -> tuple[int, str]:
        """Number of trials that the budget allows, and the limit that lowered it."""
        rest = self._rest(job.work, length)
        return job.meter.most(lambda n: self._trying(job.work, step, length, n) + rest, self.trials)


class _Sample:
    """The sample so far.

    Args:
        job: The search.

    Attributes:
        run: Its run.
        since: (1,) log-probability of what was drawn since the last comparison; None if a head does not know it.
        history: Comparisons.
        pictures: Those of the last one.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.run = job, job.run
        self.since: Tensor | None = torch.zeros(1, device=job.run.tokens.values.device)
        self.history = list[Comparison]()
        self.pictures: Tensor | None = None
        self._before: Tensor | None = self.since
        self._entropies = list[float]()

    def read(self) -> Proposal | None:
        """Read the next step; None if all its tokens are given."""
        job, k = self.job, self.run.k
        job.meter.add(job.work.drawing(k, k + 1, 1))
        if not self.run.todo[k]:
            return None
        with job.meter.timing("generator"):
            return read(job.model, self.run)

    def unsure(self, proposal: Proposal, share: float) -> bool:
        """Whether the entropy of a step is in the upper quantile of those so far; yes if the head has none."""
        here = entropy(self.run, proposal)
        if here is None:
            return True
        self._entropies.append(float(here))
        higher = sum(each > self._entropies[-1] for each in self._entropies)
        return higher < share * len(self._entropies)

    def take(self, proposal: Proposal | None) -> None:
        """Draw a step once."""
        self.since = added(self.since, take(self.run, proposal, self.job.meter))

    def split(self, proposal: Proposal, length: int, trials: int) -> None:
        """Draw a step and those up to a length in several trials, and go on with the best."""
        job = self.job
        pool = spread(self.run, proposal, self.since, proposal.k + 1, trials, job.meter)
        rows = pool.fork()
        entropies = list[Tensor | None]()
        drawn = advance(job.model, rows, length, job.meter, entropies=entropies)
        kept = self.compare(rows, added(pool.log_probs, drawn))
        self._entropies += [float(each[kept]) for each in entropies if each is not None]

    def compare(self, rows: Run, since: Tensor | None) -> int:
        """Score candidates with the log-probabilities since the last comparison, and go on with the best of them."""
        total = added(self._before, since)
        scores, self.pictures = self.job.score(rows.tokens, total, since, group=rows.last)
        kept = best(scores, 1)
        parent = int(self.history[-1].kept) if self.history else 0
        parents = torch.full(scores.shape, parent)
        self.history.append(Comparison(rows.k, rows.tokens, parents, scores, total, kept))
        index = kept.to(rows.tokens.values.device)
        self.run, self._before = rows.select(index), None if total is None else total[index]
        self.since = None if since is None else torch.zeros_like(since[:1])
        self.job.meter.lap()
        return int(kept)
