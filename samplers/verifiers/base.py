"""The contract of verifiers: they score the candidates of a search.

Shapes: n candidates, N positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.memory import is_out_of_memory
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Drawn, Model


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is to be drawn, as far as verifiers need to know it.

    Attributes:
        prompt: Text of a text-conditional model.
        label: Name of the class of a class-conditional model.
        reference: (H, W, 3) uint8, a picture that the result should resemble.
    """

    prompt: str | None = None
    label: str | None = None
    reference: Tensor | None = None


@dataclass
class Candidates:
    """What a verifier may look at.

    Attributes:
        tokens: Canvases of n rows; `known` says which positions have a value.
        pictures: (n, ...) what `decode` returns; None for verifiers that look at no pictures.
        log_probs: (n,) log-probability, in nats, of all tokens that the search drew so far; None if a head of the model
            does not know its own (diffusion, flow, several codebooks).
        last_log_probs: (n,) of the tokens since the previous comparison; None as above.
        count: Number of tokens that have a value.
        drawn: Number of tokens that the search drew, those that `log_probs` is about.
        last: The last group that was drawn, of every candidate.
    """

    tokens: Tokens
    pictures: Tensor | None
    log_probs: Tensor | None
    last_log_probs: Tensor | None
    count: int
    drawn: int
    last: Drawn | None = None


OF_CANDIDATES = frozenset({"log_probs", "features"})
"""Needs of verifiers that look at how tokens were drawn."""


class Verifier:
    """A score of candidates.

    A registered one is a class whose constructor takes the `Subject` first and options after it; its attributes are
    those of the class, so that it is listed without reading weights.

    Attributes:
        name: For messages and reports.
        pictures: It looks at pictures, so candidates are decoded.
        calls: Verifications per candidate, as a budget counts them; more than one for an ensemble.
        needs: What it cannot do without: "prompt", "class" or "reference" of the subject, "log_probs" or
            "features" of the candidates.
        range: Smallest and largest score.
        relative: Scores are those within the candidates of one comparison, such as ranks.
        networks: Names of the frozen networks that it looks with. What steers a search must not share one with what
            judges the result.
        extra: Extra of this package that it needs; empty for none.
    """

    name: str = "verifier"
    pictures: bool = True
    calls: int = 1
    needs: frozenset[str] = frozenset()
    range: tuple[float, float] = (-math.inf, math.inf)
    relative: bool = False
    networks: frozenset[str] = frozenset()
    extra: ClassVar[str] = ""

    @classmethod
    def lacks(cls, subject: Subject) -> list[str]:
        """Return the needs that a subject does not meet, sorted; candidates are not a part of it."""
        given = {"prompt": subject.prompt, "class": subject.label, "reference": subject.reference}
        return sorted(need for need in cls.needs if need in given and given[need] is None)

    def require(self, model: Model, control: Control | None = None) -> None:
        """Check that it can score what a model draws; only those that belong to one model refuse others.

        Args:
            model: The generator.
            control: Knobs; the generator's own by default.

        Raises:
            ArzooError: It belongs to another model.
        """

    def score(self, candidates: Candidates) -> Tensor:
        """Return one number per candidate (n,); higher is better."""
        raise NotImplementedError


class PictureVerifier(Verifier):
    """A verifier that scores still pictures; the score of a clip is the mean over its frames."""

    def score_images(self, images: Tensor) -> Tensor:
        """Return the scores (B,) of pictures (B, H, W, 3) uint8."""
        raise NotImplementedError

    def score(self, candidates: Candidates) -> Tensor:
        """Return one number per candidate (n,)."""
        clips = candidates.pictures
        assert clips is not None, "a search decodes for verifiers that look at pictures"
        images = clips.flatten(0, 1)
        scores = real_numbers(self.name, self.score_images(images), len(images), "picture")
        return scores.view(clips.shape[:2]).mean(1)


class PictureScore(Verifier):
    """A verifier that is a function of pictures.

    Args:
        function: Takes pictures (n, ...), as the decoder of the search returns them, and returns (n,).
        name: For messages; by default the name of the function.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def score(self, candidates: Candidates) -> Tensor:
        """Return what the function returns."""
        assert candidates.pictures is not None, "a search decodes for verifiers that look at pictures"
        return self.function(candidates.pictures)


def as_verifier(verifier: Verifier | Callable[[Tensor], Tensor]) -> Verifier:
    """Return a verifier; a function becomes a `PictureScore`.

    Raises:
        ArzooError: It is neither.
    """
    if isinstance(verifier, Verifier):
        return verifier
    if not callable(verifier):
        raise ArzooError(
            f"a verifier is a Verifier or a function of pictures (n, ...) that returns one score per picture (n,), got "
            f"{verifier!r}"
        )
    return PictureScore(verifier)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Context that names the verifier which raises in it; what says so itself, and a lack of memory, pass."""
    try:
        yield
    except ArzooError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ArzooError(
            f"verifier {name!r} failed with {type(error).__name__}: {error}. Mend it, or use another one."
        ) from error


def real_numbers(name: str, scores: object, count: int, each: str) -> Tensor:
    """What a verifier returned, checked and on the CPU: a tensor (count,) of at least 32 bits.

    Args:
        name: Name of the verifier, for the message.
        scores: What it returned.
        count: How many numbers are expected.
        each: What each of them is the score of, for the message.

    Raises:
        ArzooError: It is something else.
    """
    if not isinstance(scores, Tensor) or scores.shape != (count,) or scores.is_complex():
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ArzooError(
            f"verifier {name!r} must return one real number per {each}, a tensor ({count},), got {got}. "
            "Reduce other axes, for example with .mean(1), and keep one row per picture."
        )
    return scores.detach().to("cpu", torch.promote_types(scores.dtype, torch.float32))


def scores_of(verifier: Verifier, candidates: Candidates) -> Tensor:
    """Scores (n,) on the CPU, checked.

    Raises:
        ArzooError: The verifier raises, or returns something else than one number per candidate, or NaN.
    """
    with named(verifier.name):
        scores = verifier.score(candidates)
    count = len(candidates.tokens.values)
    scores = real_numbers(verifier.name, scores, count, "candidate")
    if bool(scores.isnan().any()):
        row = int(scores.isnan().nonzero()[0])
        raise ArzooError(
            f"verifier {verifier.name!r} returned NaN for {int(scores.isnan().sum())} of {count} candidates, the first "
            f"is candidate {row}. NaN cannot be ranked: return -inf for a candidate that must not be kept."
        )
    return scores
