"""Beam search over the steps of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Drawn
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Counts, Work
from arzoo.samplers.search.lengths import behind, beyond
from arzoo.samplers.search.pool import Pool, added, advance, branch
from arzoo.samplers.search.result import Comparison, Job, Result, best


@register("search_method", "beam")
@dataclass(frozen=True)
class Beam(Search):
    """Draw candidates of a few steps, keep the best by their score at that length, and go on from them.

    Scores of different lengths are never added. With `width=1` and one step at a time it is the greedy coarse-to-fine
    search token by token.

    Attributes:
        width: Candidates that go on after each comparison.
        candidates: Candidates per survivor; the first comparison has one row to branch from.
        lengths: After how many steps of the plan candidates are compared (`arzoo.samplers.search.lengths`); by default
            1, 2, 4, ... up to all.
        scale_first: The first comparison has width * candidates candidates, as all others.
        complete: Where the search ends before the last step, by its lengths or by the budget, complete the results
            greedily, and score them again. Tokenizers that need all tokens need it.
        results: Number of results, at most the candidates of the last comparison.
        published: As `Search`. Lengths then count from the step that the run is at instead of from the first one.

    Raises:
        ArzooError: A number is less than 1, or the beam is wider than its first candidates.
    """

    width: int = 5
    candidates: int = 10
    lengths: Sequence[int] | None = None
    scale_first: bool = False
    complete: bool = False
    results: int = 1
    published: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "candidates", "results"):
            whole_number(getattr(self, name), name, least=1)
        if self.width > self.candidates and not self.scale_first:
            raise ArzooError(
                f"a beam of width {self.width} is wider than its {self.candidates} candidates of the first comparison: "
                "lower width, raise candidates, or set scale_first=True"
            )

    def reach(self, comparison: int, length: int, steps: int) -> int:
        """Steps that candidates have when they are scored, at least `length`."""
        return length

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`."""
        total, rows, pool, step = Counts(), 1, 1, first
        lengths = self._lengths(len(work.network), first)
        for i, length in enumerate(lengths):
            cost, pool = self._cost(work, i, step, length, rows)
            total, rows, step = total + cost, min(self.width, pool), length
        return total + self._end(work, step, pool)

    def completed(self) -> Beam:
        """With `complete`."""
        return replace(self, complete=True)

    def _lengths(self, steps: int, first: int) -> tuple[int, ...]:
        """After how many of the steps of a plan candidates are compared, from a step on."""
        return (beyond if self.published else behind)(self.lengths, steps, first)

    def _count(self, comparison: int) -> int:
        return self.candidates * (self.width if self.scale_first and comparison == 0 else 1)

    def _cost(self, work: Work, comparison: int, first: int, length: int, rows: int) -> tuple[Counts, int]:
        """Counts of one comparison, and the number of its candidates."""
        cost, pool = work.branching(first, length, rows, self._count(comparison))
        reach = self.reach(comparison, length, len(work.network))
        return cost + work.drawing(length, reach, pool) + work.judging(pool), pool

    def _end(self, work: Work, length: int, pool: int) -> Counts:
        """Counts from the last comparison to the results."""
        results, steps = min(self.results, pool), len(work.network)
        if not self.complete or length == steps:
            return work.showing(results)
        return work.drawing(length, steps, results) + work.judging(results) + work.showing(results)

    def _refuse(self, job: Job, lengths: tuple[int, ...]) -> None:
        """Refuse what would fail, or search nothing, in the middle of a search."""
        run, work = job.run, job.work
        if sum(work.drawn[run.k :]) == 1:
            raise ArzooError(
                f"plan {run.plan.name!r} draws everything in one step, so there is nothing to choose between steps; "
                "use BestOfN, or a plan of more steps"
            )
        step = run.k
        for i, length in enumerate(lengths):
            k, step = work.last_drawn(step, length), length
            alike = k is not None and (work.separate[k] or run.plan.drawn(k).shape[1] > 1)
            if k is not None and alike and run.controls[run.plan.stage[k]].greedy and self._count(i) > 1:
                raise ArzooError(
                    f"step {k} of plan {run.plan.name!r} draws more than one code, so greedy candidates would all be "
                    "the same; leave greedy out"
                )

    def search(self, job: Job) -> Result:
        """Search. `Control(greedy=True)` takes the most likely candidates instead of drawing them.

        Raises:
            ArzooError: Also if the lengths are not those of the plan, or candidates cannot differ.
        """
        run = job.run
        lengths = self._lengths(len(run.plan), run.k)
        self._refuse(job, lengths)
        pool, tokens, pictures, history, stopped = self._compare(job, lengths)
        last = history[-1]
        top = best(last.scores, self.results, self.published)
        if not self.complete or pool.k == len(run.plan):
            return job.result(top, tokens, pictures, last.scores, history, stopped)
        rest = pool.keep(top.to(pool.parents.device))
        return job.complete(rest, top, self.results, history, stopped, self.published)

    def _compare(
        self, job: Job, lengths: tuple[int, ...]
    ) -> tuple[Pool, Tokens, Tensor | None, list[Comparison], str]:
        """Compare at all lengths that the budget allows.

        Returns:
            The last candidates, their canvases as they were scored, their pictures, all comparisons, and the limit that
            ended the search.
        """
        history, stopped, rows = list[Comparison](), "", job.run
        pool, tokens, pictures = None, None, None
        total: Tensor | None = torch.zeros(1, device=rows.tokens.values.device)
        kept = torch.zeros(1, dtype=torch.long, device=rows.tokens.values.device)
        for i, length in enumerate(lengths):
            cost, size = self._cost(job.work, i, rows.k if pool is None else pool.k, length, len(kept))
            cost += self._end(job.work, length, size)
            if pool is None:
                job.meter.refuse(cost, "lower candidates, or search fewer steps")
            elif stopped := job.meter.short(cost):
                break
            else:
                rows = pool.keep(kept)
            pool = branch(job.model, rows, length, self._count(i), job.meter)
            parents = kept[pool.parents]
            total = added(None if total is None else total[parents], pool.log_probs)
            tokens, last = self._ahead(job, pool, self.reach(i, length, len(rows.plan)))
            scores, pictures = job.score(tokens, total, pool.log_probs, group=last)
            survivors = best(scores, self.width, self.published)
            history.append(Comparison(length, pool.tokens, parents.cpu(), scores, total, survivors))
            kept = survivors.to(kept.device)
            job.meter.lap()
        assert pool is not None
        assert tokens is not None
        return pool, tokens, pictures, history, stopped

    def _ahead(self, job: Job, pool: Pool, reach: int) -> tuple[Tokens, Drawn | None]:
        """Canvases of the candidates as they are scored, drawn greedily up to a step, and their last group."""
        if reach <= pool.k:
            return pool.tokens, pool.last
        ahead = pool.fork()
        advance(job.model, ahead, reach, job.meter, greedy=True)
        return ahead.tokens, ahead.last
