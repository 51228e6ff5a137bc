"""Budget of a search, what it costs per step, and the meter that adds up what was spent."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.core.plan import Plan
from arzoo.samplers.loop import Model, Run
from arzoo.samplers.search.uniform import UniformBackbone


@dataclass(frozen=True)
class Counts:
    """What a search costs.

    Attributes:
        network_calls: Steps of the backbone, one per sample, where `Run.passes` has one per batch; the branches of
            guidance count once. The pass over the condition, which candidates share, is not counted.
        head_calls: Predictions of the heads, one per sample; those of a solver's steps are several.
        decodes: Pictures decoded.
        verifications: Scores of single verifiers.
        seconds: Time.
    """

    network_calls: int = 0
    head_calls: int = 0
    decodes: int = 0
    verifications: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Budget:
    """The most that a search may spend, in the units of `Counts`; None is no limit.

    Counts are never exceeded. Seconds cannot be known before: a search stops where the next comparison, if it took as
    long as the longest one before, would end too late; the first one, and completing the results, are not foreseen.

    Raises:
        ArzooError: A limit is no number above 0.
    """

    network_calls: int | None = None
    head_calls: int | None = None
    decodes: int | None = None
    verifications: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
                raise ArzooError(
                    f"budget {name}={limit!r} must be a number above 0; leave it out for no limit"
                )

    def exceeded(self, counts: Counts) -> str:
        """Name of the first limit that counts exceed; empty if none."""
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and getattr(counts, field.name) > limit:
                return field.name
        return ""


@dataclass(frozen=True)
class Work:
    """What one sample costs, to predict a search without running it.

    Attributes:
        network: (K,) steps of the backbone in each step of the plan, 1 or 0.
        heads: (K,) predictions of the head in each step.
        drawn: (K,) whether there are tokens to draw (False: the whole group is given).
        separate: (K,) whether each candidate of a step needs predictions of its own (vectors, several codebooks).
        decodes: Pictures per candidate, 0 if the verifier looks at none.
        verifications: Scores per candidate.
        shown: The results are decoded even if the verifier looks at no pictures.
    """

    network: tuple[int, ...]
    heads: tuple[int, ...]
    drawn: tuple[bool, ...]
    separate: tuple[bool, ...]
    decodes: int = 1
    verifications: int = 1
    shown: bool = True

    @staticmethod
    def of(
        model: Model, plan: Plan, controls: Control | Sequence[Control], drawn: Sequence[bool] | None = None
    ) -> Work:
        """Work of a model; searching over a uniform prior takes neither network nor heads.

        Args:
            model: Backbone and heads.
            plan: The order of generation.
            controls: One for all stages, or one per stage.
            drawn: For each step, whether there are tokens to draw; by default in all.
        """
        controls = [controls] * plan.stages if isinstance(controls, Control) else controls
        drawn = (True,) * len(plan) if drawn is None else tuple(drawn)
        heads = [model.heads[stage] for stage in plan.stage]
        calls = [
            head.evaluations(controls[stage].at(plan.progress(k)))
            for k, (head, stage) in enumerate(zip(heads, plan.stage, strict=True))
        ]
        paid = not isinstance(model.backbone, UniformBackbone)
        return Work(
            network=tuple(int(d and paid) for d in drawn),
            heads=tuple(count * (d and paid) for count, d in zip(calls, drawn, strict=True)),
            drawn=drawn,
            separate=tuple(not head.enumerates for head in heads),
        )

    @staticmethod
    def of_run(model: Model, run: Run) -> Work:
        """Work of a run."""
        return Work.of(model, run.plan, run.controls, run.todo)

    @staticmethod
    def even(steps: int, network: int = 1) -> Work:
        """Work of a plan of so many steps with a head that predicts once; `network=0` is a uniform prior."""
        return Work((network,) * steps, (network,) * steps, (True,) * steps, (False,) * steps)

    def drawing(self, first: int, last: int, rows: int) -> Counts:
        """Counts of drawing steps first..last-1 of so many rows."""
        return Counts(rows * sum(self.network[first:last]), rows * sum(self.heads[first:last]))

    def last_drawn(self, first: int, last: int) -> int | None:
        """The last of the steps first..last-1 that has tokens to draw, None if there is none."""
        return next((k for k in reversed(range(first, last)) if self.drawn[k]), None)

    def branching(self, first: int, last: int, rows: int, candidates: int) -> tuple[Counts, int]:
        """Counts of steps first..last-1 of which the last drawn one branches, and the number of candidates."""
        counts, step = self.drawing(first, last, rows), self.last_drawn(first, last)
        if step is None:
            return counts, rows
        return counts + self.alternatives(step, rows, candidates), rows * candidates

    def alternatives(self, step: int, rows: int, candidates: int) -> Counts:
        """Counts of drawing several candidates of a step instead of one."""
        return Counts(head_calls=rows * (candidates - 1) * self.heads[step] * self.separate[step])

    def judging(self, candidates: int) -> Counts:
        """Counts of scoring candidates."""
        return Counts(decodes=candidates * self.decodes, verifications=candidates * self.verifications)

    def showing(self, results: int) -> Counts:
        """Counts of decoding results that were not decoded to be scored."""
        return Counts(decodes=results * (self.shown and not self.decodes))


class Meter:
    """Adds up what a search spends.

    Args:
        budget: What it may spend.
        work: What a sample costs.

    Attributes:
        watch: Called with what was spent so far whenever that grows.
        parts: Seconds so far of generator, decoder and verifier; on a GPU, work is timed where its result is awaited.
    """

    def __init__(self, budget: Budget, work: Work) -> None:
        self.budget, self.work = budget, work
        self.watch: Callable[[Counts], None] = lambda spent: None
        self.parts = {"generator": 0.0, "decoder": 0.0, "verifier": 0.0}
        self._spent, self._start = Counts(), time.perf_counter()
        self._lap, self._longest = self._start, 0.0

    @property
    def spent(self) -> Counts:
        """What was spent so far."""
        return replace(self._spent, seconds=time.perf_counter() - self._start)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Context whose seconds are those of a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] += time.perf_counter() - start

    def add(self, counts: Counts) -> None:
        """Add counts."""
        self._spent += counts
        self.watch(self.spent)

    def lap(self) -> None:
        """Mark the end of a comparison, for the prediction of seconds."""
        end = time.perf_counter()
        self._longest, self._lap = max(self._longest, end - self._lap), end

    def short(self, counts: Counts) -> str:
        """Name of the limit that more counts would exceed; empty if they fit."""
        return self.budget.exceeded(self.spent + replace(counts, seconds=self._longest))

    def most(self, cost: Callable[[int], Counts], count: int) -> tuple[int, str]:
        """The largest number that fits, at most `count`, and the limit that lowered it; 0 if 1 does not fit.

        Args:
            cost: Counts of a number of samples.
            count: The number without a budget.
        """
        fitting = bisect.bisect_left(range(1, count + 1), True, key=lambda n: bool(self.short(cost(n))))
        return fitting, "" if fitting == count else self.short(cost(fitting + 1))

    def refuse(self, counts: Counts, advice: str) -> None:
        """Check that what one result needs fits.

        Raises:
            ArzooError: It does not.
        """
        if name := self.short(counts):
            raise ArzooError(
                f"budget {name}={getattr(self.budget, name)} is too small for one result, which needs "
                f"{getattr(self.spent + counts, name):g}: raise it, or {advice}"
            )
