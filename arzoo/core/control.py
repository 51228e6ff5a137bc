"""Control: the knobs of sampling, each a number or a schedule over the progress of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from arzoo.base.errors import ArzooError


@dataclass(frozen=True)
class Progress:
    """Progress of a run within one stage of its plan.

    Attributes:
        step: Current step, from 0.
        steps: Steps of the stage.
        done: Tokens committed before this step.
        after: Tokens committed after this step.
        total: Tokens of the stage.
        stage: Index of the stage.
    """

    step: int
    steps: int
    done: int
    after: int
    total: int
    stage: int = 0


Schedule = Callable[[Progress], float]


@dataclass(frozen=True)
class Range:
    """Numbers that a knob may have.

    Attributes:
        low: Lower end.
        high: Upper end, included.
        above: Whether `low` itself is excluded.
        integer: Whether only integers are allowed.
    """

    low: float
    high: float
    above: bool = False
    integer: bool = False

    def __contains__(self, number: object) -> bool:
        """Whether a number is in the range; nan never is."""
        if isinstance(number, bool) or not isinstance(number, Real):
            return False
        value = float(number)
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        return inside and (value.is_integer() or not self.integer)

    def __str__(self) -> str:
        kind = "a whole number " if self.integer else ""
        low = f"above {self.low:g} and at most" if self.above else f"from {self.low:g} to"
        return f"{kind}{low} {self.high:g}"


RANGES = {
    "guidance": Range(-1e4, 1e4),  # beyond it, numbers overflow
    "temperature": Range(0, 100, above=True),
    "top_k": Range(0, 2**31, integer=True),
    "top_p": Range(0, 1, above=True),
    "head_steps": Range(0, 1000, integer=True),
    "max_timestep": Range(1, 999, integer=True),
    "head_window": Range(1, 1000, integer=True),
}
"""Ranges of the numeric knobs, on the command line, in Python and in checkpoints."""


def check_knob(name: str, value: Any, subject: str = "", codes: bool = True) -> None:
    """Check that a number is in the range of a knob.

    Args:
        name: The knob, a key of `RANGES`.
        value: The number.
        subject: Subject of the message; by default the name and the value.
        codes: Whether it is for a model of codes, or no model is known: only those have a most likely code.

    Raises:
        ArzooError: The number is out of range.
    """
    if value not in RANGES[name]:
        zero = codes and name == "temperature" and isinstance(value, Real) and value == 0
        hint = ". For the most likely code, where codes are drawn, use greedy=True (--greedy)" if zero else ""
        if isinstance(value, list | tuple):
            hint = f". For a value per stage of a plan, use {name}=arzoo.samplers.schedules.by_stage(FIRST, SECOND)"
        raise ArzooError(f"{subject or f'{name} {value!r}'} must be {RANGES[name]}{hint}")


@dataclass(frozen=True)
class Settings:
    """A `Control` evaluated at one step: plain values for a head.

    Attributes:
        guidance: Scale w of classifier-free guidance, `null + w * (conditional - null)`; 1 is off.
        interval: Shares of noise between which guidance acts, from 0 (clean) to 1 (pure noise), for heads with a
            solver; None means always.
        temperature: Divides logits; scales noise in diffusion heads.
        top_k: Keep the k most likely codes and ties with the k-th; 0 keeps all.
        top_p: Keep the smallest set of codes whose probability exceeds this; 1 keeps all.
        greedy: Take the most likely code.
        head_steps: Solver steps of a diffusion or flow head; 0 means the head's own number.
        max_timestep: Largest diffusion timestep, to which others are clipped (950 in DiSA).
        spacing: Spacing of head steps over the noise schedule: "even", or "stride" (every n-th, DDIM).
        solver: Name of the solver; None means the head's own.
        head_window: States that one evaluation of a diffusion head checks at most; 1 takes the steps one by one. The
            law of the tokens stays the same.
        more_smooth: Mix the vectors of codes instead of drawing one (VAR): the share of the run that is done, from 0 at
            the first step to 1 at the last; None draws one code.
    """

    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False
    head_steps: int = 0
    max_timestep: int | None = None
    spacing: str = "even"
    solver: str | None = None
    head_window: int = 1
    more_smooth: float | None = None


@dataclass(frozen=True)
class Control:
    """The knobs of a run.

    The fields are those of `Settings`. Numeric ones may be a `Schedule`, whose values are rounded for integer knobs;
    `more_smooth` is True or False.

    Raises:
        ArzooError: `interval` is not a pair of shares of noise.
    """

    guidance: float | Schedule = 1.0
    interval: tuple[float, float] | None = None
    temperature: float | Schedule = 1.0
    top_k: int | Schedule = 0
    top_p: float | Schedule = 1.0
    greedy: bool = False
    head_steps: int | Schedule = 0
    max_timestep: int | None = None
    spacing: str = "even"
    solver: str | None = None
    head_window: int = 1
    more_smooth: bool = False

    def __post_init__(self) -> None:
        if self.interval is None:
            return
        pair = self.interval if isinstance(self.interval, tuple) else ()
        if not (len(pair) == 2 and all(isinstance(x, Real) for x in pair) and 0 <= pair[0] <= pair[1] <= 1):
            raise ArzooError(
                f"interval must be a pair of shares of noise from 0 (clean) to 1 (pure noise), such as (0.0, 0.8), got "
                f"{self.interval!r}. Divide timesteps 0..999 of a diffusion head by 999."
            )

    def at(self, progress: Progress) -> Settings:
        """Evaluate all knobs at one step.

        Raises:
            ArzooError: A knob, or the value of its schedule at this step, is out of range or has the wrong type.
        """
        return Settings(**{f.name: _value(f.name, getattr(self, f.name), progress) for f in fields(self)})

    def check(self) -> None:
        """Check the knobs at two steps, before they are stored in a checkpoint. Raises as `at`."""
        for step in (0, 1):
            self.at(Progress(step, steps=2, done=step, after=step + 1, total=2))


def _value(name: str, knob: Any, progress: Progress) -> Any:
    """Evaluate a knob as a plain value in its range; the value of a schedule is rounded for integer knobs."""
    if name in ("greedy", "more_smooth") and not isinstance(knob, bool):
        raise ArzooError(f"{name} must be True or False, got {knob!r}")
    if name == "more_smooth":
        return progress.step / max(progress.steps - 1, 1) if knob else None
    if name not in RANGES or (knob is None and name == "max_timestep"):
        return knob
    integer, subject = RANGES[name].integer, ""
    if callable(knob):
        knob = knob(progress)
        subject = f"{name} {knob!r}, from its schedule at step {progress.step} of {progress.steps},"
        if integer and isinstance(knob, Real) and math.isfinite(knob):
            knob = round(knob)
    check_knob(name, knob, subject)
    return int(knob) if integer else knob
