"""What a search takes and returns, and the scoring that all algorithms share.

Shapes: n candidates or results, N positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Drawn, Model, Run
from arzoo.samplers.search.budget import Budget, Counts, Meter, Work
from arzoo.samplers.search.pool import added, advance, distinct
from arzoo.samplers.verifiers.base import Candidates, Verifier, as_verifier, scores_of

Decode = Callable[[Tokens], Tensor]
"""Decodes canvases of n rows, of which only the `known` positions have a value, to pictures (n, ...)."""


@dataclass
class Comparison:
    """One comparison of a search.

    Attributes:
        steps: Steps of the plan that the candidates have.
        tokens: Canvases of the n candidates.
        parents: (n,) the candidate of the previous comparison that each continues; 0 in the first.
        scores: (n,) higher is better.
        log_probs: (n,) of all tokens drawn so far, in nats; None if the model does not know them.
        kept: Candidates that go on, best first; particles in their order, some several times.
        weights: (n,) float64 of particles, of which the sum is 1; None for other searches.
    """

    steps: int
    tokens: Tokens
    parents: Tensor
    scores: Tensor
    log_probs: Tensor | None
    kept: Tensor
    weights: Tensor | None = None


@dataclass
class Result:
    """The best candidates of a search, best first.

    Attributes:
        tokens: Their canvases.
        pictures: What `decode` returns for them; None without it.
        scores: (n,) by the verifier that steered the search. Judge pictures with another one.
        spent: What the search cost.
        history: All comparisons.
        stopped: The limit of the budget that ended the search early; empty if none did.
        reached: Whether the threshold of the search was; None for searches without one.
        parts: Seconds of generator, decoder and verifier; the rest of those spent is the search itself.
    """

    tokens: Tokens
    pictures: Tensor | None
    scores: Tensor
    spent: Counts
    history: list[Comparison] = field(default_factory=list)
    stopped: str = ""
    reached: bool | None = None
    parts: dict[str, float] = field(default_factory=dict)


def best(scores: Tensor, count: int, published: bool = False) -> Tensor:
    """Indices of the highest scores, best first, at most `count`.

    Args:
        scores: (n,).
        count: Number of indices.
        published: Equal scores in the order of `torch.topk`, which follows n; by default the first one is better.
    """
    count = min(count, len(scores))
    if published:
        return scores.topk(count).indices
    return scores.sort(descending=True, stable=True).indices[:count]


def with_verifier(work: Work, verifier: Verifier, shown: bool) -> Work:
    """What a sample costs with a verifier; `shown` as in `Work`."""
    return replace(work, decodes=int(verifier.pictures), verifications=verifier.calls, shown=shown)


class Job:
    """A search for one picture.

    Args:
        model: Backbone and heads.
        run: A run of one sample, before its next step. It stays as it is.
        verifier: Scores the candidates.
        decode: Decodes canvases; None if nothing looks at pictures.
        budget: What the search may spend.

    Raises:
        ArzooError: The run has several samples or nothing to draw, or the verifier looks at pictures and there is no
            `decode`.
    """

    def __init__(
        self,
        model: Model,
        run: Run,
        verifier: Verifier | Callable[[Tensor], Tensor],
        decode: Decode | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.model, self.decode = model, decode
        self.verifier = as_verifier(verifier)
        if len(run.tokens.values) != 1:
            raise ArzooError(
                f"a search is for one picture, got a run of {len(run.tokens.values)} samples; start one run and one "
                "search per class or prompt"
            )
        if not any(run.todo[run.k :]):
            raise ArzooError(
                "there is nothing to search: all tokens are given, or the run has drawn its last step; start a new run"
            )
        if self.verifier.pictures and decode is None:
            raise ArzooError(
                f"verifier {self.verifier.name!r} looks at pictures: pass decode, a function from canvases (Tokens) to "
                "pictures, or use a verifier that needs none, such as likelihood"
            )
        self.run = run.select(torch.zeros(1, dtype=torch.long, device=run.tokens.values.device))
        self.work = with_verifier(Work.of_run(model, run), self.verifier, shown=decode is not None)
        self.meter = Meter(budget or Budget(), self.work)
        self._before = int((run.tokens.known & ~run.tokens.given).sum())

    def require_absolute(self) -> None:
        """Refuse a verifier whose scores are relative to the candidates of a comparison.

        Raises:
            ArzooError: It is one.
        """
        if self.verifier.relative:
            raise ArzooError(
                f"the scores of verifier {self.verifier.name!r} only rank candidates of one comparison, and this "
                "search needs scores with a scale of their own: use a single verifier, or Beam, BestOfN or Lookahead"
            )

    def score(
        self,
        tokens: Tokens,
        log_probs: Tensor | None,
        last: Tensor | None,
        pictures: Tensor | None = None,
        group: Drawn | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode and score candidates, in one batch, of which equal ones are one.

        Args:
            tokens: Canvases of n candidates.
            log_probs: (n,) of all tokens drawn.
            last: (n,) of those since the previous comparison.
            pictures: Their pictures, if they were decoded already.
            group: The last group that was drawn, of every candidate.

        Returns:
            Scores (n,), and the pictures; None if the verifier looks at none.

        Raises:
            ArzooError: The verifier returns something else than one number per candidate, or NaN.
        """
        first, same = distinct(tokens)
        tokens, group = tokens.select(first), None if group is None else group.select(first)
        pictures, log_probs, last = (_rows(x, first) for x in (pictures, log_probs, last))
        if self.verifier.pictures and pictures is None:
            pictures = self.pictures(tokens)
        count = int(tokens.known[0].sum())
        drawn = int((tokens.known & ~tokens.given)[0].sum()) - self._before
        with self.meter.timing("verifier"):
            scores = scores_of(
                self.verifier, Candidates(tokens, pictures, _cpu(log_probs), _cpu(last), count, drawn, group)
            )
        self.meter.add(Counts(verifications=len(scores) * self.verifier.calls))
        return scores[same], _rows(pictures, same)

    def pictures(self, tokens: Tokens) -> Tensor:
        """Decode canvases in one batch, of which equal ones are one."""
        assert self.decode is not None
        first, same = distinct(tokens)
        self.meter.add(Counts(decodes=len(first)))
        with self.meter.timing("decoder"):
            pictures = self.decode(tokens.select(first))
        return pictures if len(first) == len(same) else pictures[same.to(pictures.device)]

    def complete(
        self,
        rest: Run,
        top: Tensor,
        results: int,
        history: list[Comparison],
        stopped: str,
        published: bool = False,
    ) -> Result:
        """Draw candidates of the last comparison to the end greedily, score them again, and return the best.

        Args:
            rest: Their run; it is changed.
            top: Which of the last comparison they are.
            results: Number of results.
            history: All comparisons; this one is added.
            stopped: Limit of the budget that ended the search.
            published: As in `best`.
        """
        before, steps = history[-1].log_probs, len(rest.plan)
        drawn = advance(self.model, rest, steps, self.meter, greedy=True)
        total = added(_rows(before, top), drawn)
        scores, pictures = self.score(rest.tokens, total, drawn, group=rest.last)
        order = best(scores, results, published)
        history.append(Comparison(steps, rest.tokens, top, scores, total, order))
        return self.result(order, rest.tokens, pictures, scores, history, stopped)

    def result(
        self,
        top: Tensor,
        tokens: Tokens,
        pictures: Tensor | None,
        scores: Tensor,
        history: list[Comparison],
        stopped: str,
    ) -> Result:
        """Return some candidates as the result, decoded if they were not.

        Args:
            top: Candidates, best first.
            tokens: Canvases of all.
            pictures: Pictures of all, or None.
            scores: (n,) of all.
            history: All comparisons.
            stopped: Limit of the budget that ended the search.
        """
        tokens = tokens.select(top.to(tokens.values.device))
        if pictures is not None:
            pictures = pictures[top.to(pictures.device)]
        elif self.decode is not None:
            pictures = self.pictures(tokens)
        return Result(
            tokens, pictures, scores[top], self.meter.spent, history, stopped, parts=self.meter.parts
        )


def _rows(x: Tensor | None, index: Tensor) -> Tensor | None:
    return None if x is None else x[index.to(x.device)]


def _cpu(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.cpu()
