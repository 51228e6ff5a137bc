"""Best of N: whole samples, of which the best is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.registry import register
from arzoo.samplers.loop import Drawn, Run
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Counts, Work
from arzoo.samplers.search.pool import advance, alternatives, joined, together
from arzoo.samplers.search.result import Comparison, Job, Result, best


@register("search_method", "best_of_n")
@dataclass(frozen=True)
class BestOfN(Search):
    """Draw N samples, each with a seed of its own, and score them once.

    The first sample is the one that is drawn without a search. A budget of counts lowers N; one of seconds ends
    drawing after a batch.

    Attributes:
        samples: N.
        batch: Samples that are drawn and decoded at once; None means all. The tokens do not depend on it; numbers of a
            picture are rounded by the number of those that are decoded with it.
        results: Number of results, at most N.
        published: As `Search`.

    Raises:
        ArzooError: A number is less than 1.
    """

    samples: int = 50
    batch: int | None = None
    results: int = 1
    published: bool = False
    own_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_number(self.samples, "samples of best-of-N", least=1)
        whole_number(self.results, "results", least=1)
        if self.batch is not None:
            whole_number(self.batch, "batch", least=1)

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`."""
        return self._cost(work, first, self.samples)

    def _cost(self, work: Work, first: int, samples: int) -> Counts:
        drawing = work.drawing(first, len(work.network), samples)
        return drawing + work.judging(samples) + work.showing(min(self.results, samples))

    def search(self, job: Job) -> Result:
        """Search."""
        run = job.run
        job.meter.refuse(self._cost(job.work, run.k, 1), "use fewer verifiers or a plan of fewer steps")
        samples, stopped = job.meter.most(lambda n: self._cost(job.work, run.k, n), self.samples)
        parts = list[Run]()
        log_probs, pictures = list[Tensor | None](), list[Tensor | None]()
        seeds = alternatives(run.draws.seeds[0], range(samples))
        batch = self.batch or samples
        for start in range(0, samples, batch):
            if start and (late := job.meter.short(Counts())):
                stopped = late
                break
            some = seeds[start : start + batch]
            part = run.select(torch.zeros(len(some), dtype=torch.long), some)
            log_probs.append(advance(job.model, part, len(part.plan), job.meter))
            pictures.append(job.pictures(part.tokens) if job.verifier.pictures else None)
            parts.append(part)
            job.meter.lap()
        tokens = joined([part.tokens for part in parts])
        total, last = together(log_probs), Drawn.joined([part.last for part in parts])
        scores, shown = job.score(tokens, total, total, together(pictures), last)
        top = best(scores, self.results, self.published)
        parents = torch.zeros(len(scores), dtype=torch.long)
        history = [Comparison(len(run.plan), tokens, parents, scores, total, top)]
        return job.result(top, tokens, shown, scores, history, stopped)
