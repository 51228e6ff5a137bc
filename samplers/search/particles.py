"""Particles: samples are drawn side by side, and those with low scores are replaced by copies of the others.

"Feynman-Kac Formulae", 2004; with verifiers as potentials, "A General Framework for Inference-time Scaling and Steering
of Diffusion Models", 2025, section 3 (potential "difference").

Shapes: N particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.base.runtime import sample_seed
from arzoo.core.draws import Draws
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Counts, Work
from arzoo.samplers.search.lengths import behind
from arzoo.samplers.search.pool import added, advance, alternatives
from arzoo.samplers.search.result import Comparison, Job, Result, best


@register("search_method", "particles")
@dataclass(frozen=True)
class Particles(Search):
    """Sequential Monte Carlo: weighted samples of the law p(picture) exp(score / temperature), p being the model's.

    At every comparison the weight of a particle is multiplied by exp((score - previous score) / temperature). Where
    the weights become too unequal, N particles are drawn from them (systematic resampling), each going on with its own
    seed. `Comparison.weights` of the last comparison belong to all its canvases; the results are those with the best
    scores. Unlike a beam, it keeps several kinds of pictures, and the exact law is reached as N grows.

    A budget of counts lowers N; one of seconds ends the search at a comparison.

    Attributes:
        particles: N.
        temperature: Difference of scores that is worth a factor of e in probability; it depends on the verifier.
        threshold: Particles are drawn again when the effective sample size, 1 / sum of squared weights, is below this
            share of N; 0 never draws again, 1 always.
        lengths: As in `Beam`.
        complete: As in `Beam`.
        results: Number of results, at most N.

    Raises:
        ArzooError: A number is less than 1, the temperature is not above 0, or the threshold not from 0 to 1.
    """

    particles: int = 20
    temperature: float = 0.1
    threshold: float = 0.5
    lengths: Sequence[int] | None = None
    complete: bool = False
    results: int = 1
    absolute: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_number(self.particles, "particles", least=1)
        whole_number(self.results, "results", least=1)
        if not 0 < self.temperature < float("inf"):
            raise ArzooError(
                f"the temperature of particles must be above 0 and finite, got {self.temperature!r}; to keep the best "
                "alone, use Beam"
            )
        if not 0 <= self.threshold <= 1:
            raise ArzooError(
                f"the threshold of particles is a share of them, from 0 to 1, got {self.threshold!r}"
            )

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`."""
        return self._cost(work, first, self.particles)

    def completed(self) -> Particles:
        """With `complete`."""
        return replace(self, complete=True)

    def _cost(self, work: Work, first: int, count: int) -> Counts:
        steps, results = len(work.network), min(self.results, count)
        lengths = behind(self.lengths, steps, first)
        cost = work.drawing(first, lengths[-1], count) + work.judging(count * len(lengths))
        if self.complete and lengths[-1] < steps:
            cost += work.drawing(lengths[-1], steps, results) + work.judging(results)
        return cost + work.showing(results)

    def search(self, job: Job) -> Result:
        """Search.

        Raises:
            ArzooError: Also if the lengths are not those of the plan, or scores cannot be compared between comparisons.
        """
        job.require_absolute()
        run, history = job.run, list[Comparison]()
        lengths = behind(self.lengths, len(run.plan), run.k)
        job.meter.refuse(self._cost(job.work, run.k, 1), "search fewer steps")
        count, stopped = job.meter.most(lambda n: self._cost(job.work, run.k, n), self.particles)
        root, device = run.draws.seeds[0], run.tokens.values.device
        kept = torch.zeros(count, dtype=torch.long)
        # Seeds differ between particles and from those before a comparison; the first is that of the plain sample.
        rows = run.select(kept.to(device), alternatives(root, range(count)))
        total: Tensor | None = torch.zeros(count, device=device)
        before, again, pictures = torch.zeros(count), False, None
        for i, length in enumerate(lengths):
            if i and (late := job.meter.short(Counts())):
                stopped = late
                break
            if again:
                index = kept.to(device)
                rows = rows.select(index, [sample_seed(root, i * count + j) for j in range(count)])
                total = None if total is None else total[index]
            drawn = advance(job.model, rows, length, job.meter)
            total = added(total, drawn)
            scores, pictures = job.score(rows.tokens, total, drawn, group=rows.last)
            weights = shares((scores - before) / self.temperature)
            again = length < lengths[-1] and effective(weights) < self.threshold * count
            parents, kept = kept, torch.arange(count)
            if again:
                offset = float(Draws([sample_seed(root, -i - 1)]).uniform((1,)))
                kept = systematic(weights, offset)
                # Infinite scores are as good as each other.
                before = scores[kept].nan_to_num(posinf=0.0, neginf=0.0)
            history.append(Comparison(length, rows.tokens.copy(), parents, scores, total, kept, weights))
            job.meter.lap()
        last = history[-1]
        last.kept = top = best(last.scores, self.results)
        if not self.complete or rows.k == len(run.plan):
            return job.result(top, last.tokens, pictures, last.scores, history, stopped)
        return job.complete(rows.select(top.to(device)), top, self.results, history, stopped)


def shares(log_weights: Tensor) -> Tensor:
    """Normalized weights (N,) float64 from their logarithms; infinite ones share all, or nothing unless all do."""
    top = log_weights.double().max()
    if top.isinf():
        equal = (log_weights == top).double()
        return equal / equal.sum()
    return log_weights.double().softmax(0)


def effective(weights: Tensor) -> float:
    """Effective sample size of normalized weights (N,): how many equal ones are worth as much."""
    return float(1 / weights.square().sum())


def systematic(weights: Tensor, offset: float) -> Tensor:
    """Draw N particles (N,) from normalized weights (N,), each N times its weight, rounded up or down.

    Systematic resampling ("Monte Carlo Filter and Smoother for Non-Gaussian Nonlinear State Space Models", 1996).

    Args:
        weights: Normalized weights.
        offset: From 0 to 1.
    """
    count = len(weights)
    levels = (torch.arange(count, dtype=torch.float64) + offset) / count
    last = int(weights.nonzero()[-1])  # rounding must not lead past the last particle that has a weight
    return torch.searchsorted(weights.cumsum(0), levels, right=True).clamp(max=last)
