"""Rejection: draw again until a verifier is satisfied."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Run
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Counts, Work
from arzoo.samplers.search.lengths import to_the_end
from arzoo.samplers.search.pool import added, advance, alternatives, joined, together
from arzoo.samplers.search.result import Comparison, Job, Result, best


@register("search_method", "rejection")
@dataclass(frozen=True)
class Rejection(Search):
    """Draw samples until one has the score that is asked for; the best so far where none gets there.

    With `lengths`, a prefix is drawn again until its score is reached, or the tries are used up, and the search goes
    on from the best one; so what is drawn well is not thrown away with what follows. The first sample is the plain one.

    A budget ends the tries; what is left of it draws the best one to the end.

    Attributes:
        threshold: The score, as high as it must be: one number, or one per length. Partial pictures have lower ones.
        most: Tries per length.
        batch: Samples that are drawn and scored at once.
        lengths: After how many steps of the plan prefixes are scored; whole samples always are. By default only they.
        results: Number of results, at most the samples drawn last.

    Raises:
        ArzooError: A number is less than 1, a threshold is not a finite number, or there is not one per length.
    """

    threshold: float | tuple[float, ...]
    most: int = 50
    batch: int = 1
    lengths: Sequence[int] | None = None
    results: int = 1
    absolute: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("most", "batch", "results"):
            whole_number(getattr(self, name), name, least=1)
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in self._given()):
            raise ArzooError(f"a threshold is a finite number, or one per length, got {self.threshold!r}")

    def _given(self) -> Sequence[float]:
        return [self.threshold] if isinstance(self.threshold, int | float) else self.threshold

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`: no threshold is reached."""
        cost = self._cost(work, first, self._lengths(len(work.network), first), self.most)
        return cost + work.showing(min(self.results, self.most))

    def _lengths(self, steps: int, first: int) -> tuple[int, ...]:
        return to_the_end(self.lengths or (), steps, first)

    def _thresholds(self, lengths: tuple[int, ...]) -> Sequence[float]:
        given = self._given()
        if len(given) not in (1, len(lengths)):
            raise ArzooError(
                f"{len(given)} thresholds for the lengths {lengths}: give one for all of them, or one per length; the "
                "last is that of whole samples"
            )
        return [*given] * len(lengths) if len(given) == 1 else given

    def _cost(self, work: Work, first: int, lengths: tuple[int, ...], tries: int) -> Counts:
        """Counts of so many tries per length."""
        steps = itertools.pairwise((first, *lengths))
        return sum((work.drawing(a, b, tries) + work.judging(tries) for a, b in steps), Counts())

    def search(self, job: Job) -> Result:
        """Search.

        Raises:
            ArzooError: Also if the lengths are not those of the plan, or scores cannot be compared between samples.
        """
        job.require_absolute()
        rows, history, stopped = job.run, list[Comparison](), ""
        lengths = self._lengths(len(rows.plan), rows.k)
        thresholds = self._thresholds(lengths)
        job.meter.refuse(self._cost(job.work, rows.k, lengths, 1) + job.work.showing(1), "give fewer lengths")
        total: Tensor | None = torch.zeros(1, device=rows.tokens.values.device)
        parent, pictures, reached = 0, None, False
        for i, threshold in enumerate(thresholds):
            tries = self._draw(job, rows, total, lengths[i:], threshold)
            scores, drawn = torch.cat(tries.scores), together(tries.log_probs)
            kept = best(scores, 1 if lengths[i + 1 :] else self.results)
            parents = torch.full(scores.shape, parent)
            history.append(Comparison(lengths[i], joined(tries.tokens), parents, scores, drawn, kept))
            parent, rows, stopped = int(kept[0]), tries.best, tries.stopped or stopped
            total = None if drawn is None else drawn[kept[:1].to(drawn.device)]
            pictures, reached = together(tries.pictures), float(scores[parent]) >= threshold
        last = history[-1]
        result = job.result(last.kept, last.tokens, pictures, last.scores, history, stopped)
        result.reached = reached
        return result

    def _draw(
        self, job: Job, rows: Run, total: Tensor | None, lengths: tuple[int, ...], threshold: float
    ) -> _Tries:
        """Draw a prefix up to the first length again and again, until its score reaches a threshold."""
        tries, work, seed = _Tries(rows), job.work, rows.draws.seeds[0]

        def cost(count: int) -> Counts:
            shown = 1 if lengths[1:] else min(self.results, tries.count + count)
            rest = self._cost(work, lengths[0], lengths[1:], 1) + work.showing(shown)
            return self._cost(work, rows.k, lengths[:1], count) + rest

        while tries.count < self.most and tries.top < threshold:
            size, limit = job.meter.most(cost, min(self.batch, self.most - tries.count))
            tries.stopped = limit
            if tries.count and not size:
                break
            numbers = range(tries.count, tries.count + max(size, 1))  # what the first one costs was kept back
            index = torch.zeros(len(numbers), dtype=torch.long, device=rows.tokens.values.device)
            part = rows.select(index, alternatives(seed, numbers))
            drawn = advance(job.model, part, lengths[0], job.meter)
            so_far = added(None if total is None else total[index], drawn)
            scores, pictures = job.score(part.tokens, so_far, drawn, group=part.last)
            tries.add(part, scores, so_far, pictures)
            job.meter.lap()
        if tries.top >= threshold:
            tries.stopped = ""
        return tries


class _Tries:
    """Samples of one length, drawn batch after batch.

    Args:
        rows: What they continue.
    """

    def __init__(self, rows: Run) -> None:
        self.best, self.top, self.stopped = rows, -math.inf, ""
        self.tokens, self.scores = list[Tokens](), list[Tensor]()
        self.log_probs, self.pictures = list[Tensor | None](), list[Tensor | None]()

    @property
    def count(self) -> int:
        """Number of samples."""
        return sum(map(len, self.scores))

    def add(self, part: Run, scores: Tensor, log_probs: Tensor | None, pictures: Tensor | None) -> None:
        """Add a batch."""
        first = int(best(scores, 1))
        if not self.scores or float(scores[first]) > self.top:
            self.top, self.best = float(scores[first]), part.select(torch.tensor([first]))
        self.tokens.append(part.tokens)
        self.scores.append(scores)
        self.log_probs.append(log_probs)
        self.pictures.append(pictures)
