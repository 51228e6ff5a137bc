"""Search of a generator: the algorithms of `arzoo.samplers.search`, with its tokenizer as the decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.ends import first_known, from_canvas
from arzoo.core.tokens import Tokens
from arzoo.generation.drawings import Drawings
from arzoo.generation.request import seeds_of
from arzoo.generation.runs import begin
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Budget, Counts
from arzoo.samplers.search.result import Job, Result
from arzoo.samplers.verifiers.base import Verifier, as_verifier

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def preview(model: Generator, tokens: Tokens) -> Tokens:
    """Return the canvas that shows the tokens so far, as `DrawingStep.preview` does."""
    tokens = pyramid.preview(tokens, model.plan().layout)
    return first_known(tokens) if model.spec.prefix_ok else tokens


def search(
    model: Generator,
    algorithm: Search,
    verifier: Verifier | Callable[[Tensor], Tensor],
    cond: Cond,
    seed: int = 0,
    control: Control | None = None,
    budget: Budget | None = None,
    seeds: Sequence[int] | None = None,
    progress: Callable[[Counts], None] | None = None,
) -> Result:
    """Search for the picture that a verifier likes best.

    Example:
        >>> budget = Budget(decodes=100)  # doctest: +SKIP
        >>> result = model.search(Beam(5, 10), redness, classes=[3], budget=budget)  # doctest: +SKIP
        >>> result.pictures.images, result.scores, result.spent, result.history  # doctest: +SKIP

    Args:
        model: The generator.
        algorithm: One of `arzoo models --kind search_method`, such as `Beam`. Where a picture needs all tokens, results
            are completed.
        verifier: A `Verifier`, or a function of pictures (n, T, H, W, 3) uint8 that returns (n,), higher is better.
        cond: The condition, one row; `Generator.search` takes one class or prompt instead.
        seed: Seed of the request, as in `Generator.generate`; best-of-N's first sample is what that draws.
        control: Knobs; the checkpoint's own by default.
        budget: What to spend at most.
        seeds: The seed of the picture itself, one, instead of `seed`.
        progress: Called with what was spent so far, whenever that grows.

    Raises:
        UnknownName: The model does not know the class.
        ArzooError: Not exactly one picture is requested; also as the algorithm.
    """
    algorithm, job = _job(model, algorithm, verifier, cond, seeds_of(cond, seed, seeds), control, budget)
    if progress is not None:
        job.meter.watch = progress
    with torch.no_grad():
        result = algorithm.search(job)
    assert result.pictures is not None
    tokens = preview(model, result.tokens)
    if model.spec.ends:
        tokens = from_canvas(tokens, model.spec)
    result.pictures = Drawings.of(result.pictures, tokens.present.sum(1).cpu())
    return result


def search_cost(
    model: Generator,
    algorithm: Search,
    verifier: Verifier | Callable[[Tensor], Tensor],
    cond: Cond,
    control: Control | None = None,
) -> Counts:
    """Return the most that a search without a budget spends, without running it; seconds are not predicted.

    Args:
        model: As in `search`, as the other arguments.
        algorithm: As there.
        verifier: As there.
        cond: As there.
        control: As there.
    """
    algorithm, job = _job(model, algorithm, verifier, cond, [0], control, None)
    return algorithm.predict(job.work, job.run.k)


def _job(
    model: Generator,
    algorithm: Search,
    verifier: Verifier | Callable[[Tensor], Tensor],
    cond: Cond,
    seeds: Sequence[int],
    control: Control | None,
    budget: Budget | None,
) -> tuple[Search, Job]:
    """The algorithm as it suits the tokenizer, and its search before the first step."""
    if cond.batch != 1:
        raise ArzooError(
            f"a search is for one picture, got {cond.batch} classes or prompts; call search once for each of them"
        )
    if not (model.spec.prefix_ok or model.spec.subset_ok):
        algorithm = algorithm.completed()
    verifier = as_verifier(verifier)
    verifier.require(model, control)
    algorithm.require(model, control)
    parts, run = begin(model, cond, seeds, control)
    return algorithm, Job(
        parts, run, verifier, lambda tokens: model.decode(preview(model, tokens), exact=False), budget
    )
