"""Search by a cheap verifier, whose results are scored once more by the real one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.samplers.loop import Model
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Budget, Counts, Work
from arzoo.samplers.search.result import Comparison, Job, Result, best, with_verifier
from arzoo.samplers.verifiers.base import Verifier


@dataclass(frozen=True)
class Rescored(Search):
    """Steer a search by one verifier, such as a value model, and choose among its results by another one.

    A search finds the mistakes of what steers it. The verifier that this search is called with sees only the results of
    the inner one, `finals.results` of them, and ranks these.

    Attributes:
        finals: The search that is steered.
        steering: The verifier that steers it.
        results: Number of results, at most those of the inner search.

    Example:
        >>> search = Rescored(Beam(5, 10, results=5), TokenValue(checkpoint="runs/value"))  # doctest: +SKIP
        >>> model.search(search, class_probe, classes=[3]).spent.decodes  # doctest: +SKIP
        5
    """

    finals: Search
    steering: Verifier
    results: int = 1

    def predict(self, work: Work, first: int = 0) -> Counts:
        """As `Search.predict`."""
        inner = with_verifier(work, self.steering, shown=self.steering.pictures)
        return self.finals.predict(inner, first) + self._last(work)

    def require(self, model: Model, control: Control | None = None) -> None:
        """As the verifier that steers."""
        self.steering.require(model, control)

    def completed(self) -> Rescored:
        """With an inner search whose results are completed."""
        return replace(self, finals=self.finals.completed())

    def _last(self, work: Work) -> Counts:
        """The most that scoring the results once more takes."""
        count = self.finals.results
        return work.judging(count) + work.showing(min(self.results, count))

    def search(self, job: Job) -> Result:
        """Search; the last comparison of the result's history is that of the real verifier."""
        decode = job.decode if self.steering.pictures else None
        steered = Job(job.model, job.run, self.steering, decode, self._rest(job))
        steered.meter.watch = job.meter.watch
        inner = self.finals.search(steered)
        job.meter.add(replace(inner.spent, seconds=0.0))
        for part, seconds in inner.parts.items():
            job.meter.parts[part] += seconds
        last = inner.history[-1]
        parents = best(last.scores, len(inner.scores), self.finals.published)
        log_probs = None if last.log_probs is None else last.log_probs[parents]
        scores, pictures = job.score(inner.tokens, log_probs, log_probs)
        top = best(scores, self.results)
        history = [*inner.history, Comparison(last.steps, inner.tokens, parents, scores, log_probs, top)]
        result = job.result(top, inner.tokens, pictures, scores, history, inner.stopped)
        result.reached = inner.reached
        return result

    def _rest(self, job: Job) -> Budget:
        """The budget of the inner search.

        Raises:
            ArzooError: Scoring the results once more leaves nothing of it.
        """
        last, rest = self._last(job.work), {}
        for name, limit in vars(job.meter.budget).items():
            unused = name == "decodes" and not self.steering.pictures
            left = None if limit is None else limit - getattr(last, name)
            if left is not None and (left < 0 or (left == 0 and not unused)):
                raise ArzooError(
                    f"budget {name}={limit} is too small: scoring the results of the search once more takes "
                    f"{getattr(last, name)} of it. Raise it, or lower results of the inner search"
                )
            rest[name] = None if unused else left
        return Budget(**rest)
