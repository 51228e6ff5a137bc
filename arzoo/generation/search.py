"""Search of a generator: the algorithms of `arzoo.samplers.search`, with its tokenizer as the decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.ends import from_canvas
from arzoo.core.pyramid import finest
from arzoo.core.tokens import Tokens
from arzoo.data.base import label_of
from arzoo.generation.drawings import Drawings, preview
from arzoo.generation.noise import noise_of
from arzoo.generation.prompts import class_words, takes_text
from arzoo.generation.request import Classes, seeds_of
from arzoo.generation.runs import begin
from arzoo.generation.subjects import requested
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.budget import Budget, Counts
from arzoo.samplers.search.result import Job, Result
from arzoo.samplers.verifiers.base import Subject, Verifier, as_verifier

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def subject_of(
    model: Generator,
    classes: Classes | None = None,
    prompts: Sequence[str] | None = None,
    reference: Tensor | None = None,
) -> Subject:
    """Return what a picture is to show, for verifiers.

    A model of texts draws a class by its words, which then are the prompt as well. A model of classes has no prompt:
    its classes are groups of drawings, and words such as "face smiling, openmoji" are no caption of any.

    Args:
        model: The generator.
        classes: The class, by name or number, as the only one.
        prompts: The prompt, as the only one.
        reference: (H, W, 3) uint8, a picture that the result should resemble.
    """
    if prompts is not None:
        return Subject(prompt=prompts[0], reference=reference)
    if classes is None or not model.classes:
        return Subject(reference=reference)
    name = model.classes[label_of(next(iter(classes)), model.classes)]
    words = class_words(name) if takes_text(model.backbone) else None
    return Subject(prompt=words, label=name, reference=reference)


def search(
    model: Generator,
    algorithm: Search | str,
    verifier: Verifier | Callable[[Tensor], Tensor] | str,
    classes: Classes | None = None,
    seed: int = 0,
    control: Control | None = None,
    budget: Budget | None = None,
    *,
    prompts: Sequence[str] | None = None,
    cond: Cond | None = None,
    seeds: Sequence[int] | None = None,
    number: int = 0,
    progress: Callable[[Counts], None] | None = None,
) -> Result:
    """Search for the picture that a verifier likes best.

    Example:
        >>> result = model.search("best_of_n", "image_text", prompts=["red heart"])  # doctest: +SKIP
        >>> budget = Budget(decodes=100)  # doctest: +SKIP
        >>> result = model.search(Beam(5, 10), redness, classes=[3], budget=budget)  # doctest: +SKIP
        >>> result.pictures.images, result.scores, result.spent, result.history  # doctest: +SKIP

    Args:
        model: The generator.
        algorithm: One of `arzoo models --kind search_method`: a name, or an object with settings such as `Beam(5, 10)`.
            Where a picture needs all tokens, results are completed.
        verifier: The name of a verifier, a `Verifier`, or a function of pictures (n, T, H, W, 3) uint8 that returns
            (n,), higher is better.
        classes: One class, for models with classes, as in `Generator.generate`.
        seed: Seed of the request, as in `Generator.generate`; best-of-N's first sample is what that draws.
        control: Knobs; the checkpoint's own by default.
        budget: What to spend at most.
        prompts: One prompt, for models that read text.
        cond: The condition, one row, instead of class and prompt.
        seeds: The seed of the picture itself, one, instead of `seed`.
        number: Number of the prompt, from which a search that is `published` draws the noise of the decoder.
        progress: Called with what was spent so far, whenever that grows.

    Raises:
        UnknownName: The model does not know the class, or there is no such method or verifier.
        ArzooError: Not exactly one picture is requested; also as `open_verifier` and the algorithm.
    """
    cond, _ = requested(model, classes=classes, prompts=prompts, cond=cond)
    method: Search = registry.create("search_method", algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(verifier, str):
        verifier = open_verifier(verifier, subject_of(model, classes, prompts))
    method, job = _job(model, method, verifier, cond, seeds_of(cond, seed, seeds), control, budget, number)
    if progress is not None:
        job.meter.watch = progress
    with torch.no_grad():
        result = method.search(job)
    assert result.pictures is not None
    tokens = preview(model, result.tokens)
    if not model.spec.canvas:
        tokens = finest(tokens, model.plan().layout)
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
    number: int = 0,
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
    noise = noise_of(algorithm, number)

    def decode(tokens: Tokens) -> Tensor:
        return model.decode(preview(model, tokens), exact=False, draws=noise(len(tokens.values)))

    return algorithm, Job(parts, run, verifier, decode, budget)
