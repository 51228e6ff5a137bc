"""A request of the page: its drawing, step after step, and the command that draws the same picture."""

from __future__ import annotations

import hashlib
import shlex
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.core.control import Range
from arzoo.demo.knobs import options_of, with_knobs
from arzoo.demo.models import CLASS
from arzoo.generation.drawings import Drawings, DrawingStep
from arzoo.generation.generator import Generator
from arzoo.generation.inputs import completion

SEEDS = Range(0, 2**53 - 1, integer=True)
"""Seeds that a browser, which has no other numbers than floats, keeps exactly."""
LONGEST_TEXT = 1000
INIT, MASK = "init.png", "mask.png"
"""Files of a picture to complete, as the command calls them."""

_beginning = threading.Lock()
"""Warnings are collected by one thread at a time."""


@dataclass(frozen=True)
class Request:
    """What a visitor asks for.

    Attributes:
        model: Name of the model.
        kind: Kind of its subject, see `models.Subjects`.
        subject: Class or text; empty for a model that takes neither.
        seed: Seed.
        knobs: Knobs that differ from the model's own, see `knobs.TEXTS`.
        init: A picture to complete, or None.
        mask: What of it to draw anew: white, of the same size.
    """

    model: str
    kind: str
    subject: str
    seed: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    init: Image.Image | None = None
    mask: Image.Image | None = None

    def check(self) -> None:
        """Check what does not depend on the model.

        Raises:
            ArzooError: The seed is out of range, a subject is missing, or a text is too long or reads as an option.
        """
        if self.seed not in SEEDS:
            raise ArzooError(f"the seed {self.seed!r} must be {SEEDS}")
        if self.kind and not self.subject:
            raise ArzooError(
                "choose a class" if self.kind == CLASS else "say in the text what to draw, such as: red heart"
            )
        if len(self.subject) > LONGEST_TEXT:
            raise ArzooError(
                f"the text has {len(self.subject)} characters; models read the first words, {LONGEST_TEXT} are allowed"
            )
        if self.subject.startswith("-"):
            raise ArzooError("a text cannot begin with '-', which begins options of the command")

    def command(self, more: Sequence[str] = ()) -> str:
        """Return the command line that draws the same picture.

        Args:
            more: Further options.
        """
        words = ["arzoo", "generate", self.model]
        words += [f"--{'class' if self.kind == CLASS else 'prompt'}", self.subject] if self.kind else []
        words += ["--num", "1", "--seed", str(int(self.seed)), *options_of(self.knobs)]
        digest = hashlib.sha256("\n".join([*words, *more]).encode())
        if self.init is not None and self.mask is not None:
            words += ["--init", INIT, "--mask", MASK]
            digest.update(self.init.tobytes() + self.mask.tobytes())
        return shlex.join([*words, *more, "--out", f"out/demo_{digest.hexdigest()[:8]}"])


@dataclass(frozen=True)
class Shown:
    """A picture on its way.

    Attributes:
        pixels: (H, W, 3) uint8; the frames of a clip lie side by side.
        step: Steps that are done.
        steps: Steps to do.
        seconds: Time that its drawing took so far.
        remarks: What works, but not as one might expect.
        done: Whether the picture is complete.
    """

    pixels: np.ndarray
    step: int
    steps: int
    seconds: float
    remarks: Sequence[str] = ()
    done: bool = False


def drawing(model: Generator, request: Request) -> Iterator[Shown]:
    """Draw what is asked for; the pictures on the way take at most half of the time.

    Raises:
        ArzooError: The request is out of range, or does not fit the model.
    """
    request.check()
    clock = Clock()
    step, steps, remarks = _begun(model, request)
    pixels, showing = None, 0.0
    following: DrawingStep | None = step
    while following is not None:
        step, began = following, clock.seconds
        if pixels is None or showing <= began / 2:
            pixels = pixels_of(step.preview())
            showing += clock.seconds - began
        shown = Shown(pixels, step.k + 1, len(step.run.plan), clock.seconds, remarks)
        with clock.paused():
            yield shown
        following = next(steps, None)
    pixels = pixels_of(step.preview())
    yield Shown(pixels, step.k + 1, len(step.run.plan), clock.seconds, remarks, done=True)


class Clock:
    """Seconds since it was made, without pauses."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what is done meanwhile."""
        began = time.perf_counter()
        yield
        self._start += time.perf_counter() - began


def _begun(model: Generator, request: Request) -> tuple[DrawingStep, Iterator[DrawingStep], list[str]]:
    """Return the first step, the others, and what the library warned of."""
    model, control = with_knobs(model, request.knobs)
    subject: dict[str, Any] = {"num": 1}
    if request.kind:
        subject = {"classes" if request.kind == CLASS else "prompts": [request.subject]}
    with _beginning, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = None
        if request.init is not None:
            given = completion(model, request.init, request.mask, 1)
        steps = model.stream(
            **subject, seed=request.seed, control=control, given=given, tokens=request.knobs.get("tokens")
        )
        first = next(steps)
    own = [warning for warning in caught if warning.category.__module__.startswith("arzoo.")]
    return first, steps, [str(warning.message) for warning in own]


def pixels_of(drawings: Drawings) -> np.ndarray:
    """Return a drawing as (H, W, 3) uint8, the frames of a clip side by side."""
    return np.concatenate(list(drawings.tensor[0].cpu().numpy()), axis=1)


def side_by_side(drawings: Sequence[Iterator[Shown]]) -> Iterator[list[Shown | None]]:
    """Draw several pictures at once, always going on with the one that is furthest from its end.

    Yields:
        The newest state of each; None before its first step.
    """
    shown: list[Shown | None] = [None] * len(drawings)
    while not all(each is not None and each.done for each in shown):
        shares = [0.0 if each is None else 2.0 if each.done else each.step / each.steps for each in shown]
        i = shares.index(min(shares))
        shown[i] = next(drawings[i])
        yield list(shown)
