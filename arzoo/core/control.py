"""Control: every knob of sampling, each a number or a schedule over the progress of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from arzoo.base.errors import ArzooError


@dataclass(frozen=True)
class Progress:
    """Where a run stands, within one stage of its plan.

    Attributes:
        step: This step, from 0.
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
        low: The smallest.
        high: The largest.
        above: Whether `low` itself is too small.
        whole: Whether the knob counts something.
    """

    low: float
    high: float
    above: bool = False
    whole: bool = False

    def __contains__(self, number: object) -> bool:
        """Whether a number is one of them; nan never is."""
        if isinstance(number, bool) or not isinstance(number, Real):
            return False
        value = float(number)
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        return inside and (value.is_integer() or not self.whole)

    def __str__(self) -> str:
        what = "a whole number " if self.whole else ""
        low = f"above {self.low:g} and at most" if self.above else f"from {self.low:g} to"
        return f"{what}{low} {self.high:g}"


RANGES = {
    "guidance": Range(-1e4, 1e4),  # beyond it, numbers overflow
    "temperature": Range(0, 100, above=True),
    "top_k": Range(0, 2**31, whole=True),
    "top_p": Range(0, 1, above=True),
    "head_steps": Range(0, 1000, whole=True),
    "max_timestep": Range(1, 999, whole=True),
}
"""What the numeric knobs may be, on the command line, in Python and in checkpoints."""


def check_knob(name: str, value: Any, said: str = "") -> None:
    """Compare a number with its range.

    Args:
        name: The knob, a key of `RANGES`.
        value: The number.
        said: The knob and its value as they were given; by default its name and the value.

    Raises:
        ArzooError: It is outside.
    """
    if value not in RANGES[name]:
        raise ArzooError(f"{said or f'{name} {value!r}'} must be {RANGES[name]}")


@dataclass(frozen=True)
class Settings:
    """A `Control` evaluated at one step: plain numbers, all a head needs.

    Attributes:
        guidance: Scale w of classifier-free guidance, `null + w * (conditional - null)`; 1 is off.
        interval: Shares of noise between which guidance acts, 0 being clean tokens and 1 pure noise, for heads with a
            solver; None is always.
        temperature: Divides logits; scales noise in diffusion heads.
        top_k: Keep the k most likely codes (ties with the k-th kept); 0 keeps all.
        top_p: Keep the smallest set of codes whose probability exceeds this; 1 keeps all.
        greedy: Take the most likely code.
        head_steps: Solver steps of a diffusion or flow head, 0 for the head's own number.
        max_timestep: Clip of diffusion timesteps (DiSA's 950).
        spacing: How head steps are spread over the noise schedule: "even", or "stride" (every n-th, DDIM).
        solver: Name of the solver, None for the head's own.
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


@dataclass(frozen=True)
class Control:
    """The knobs of a run.

    Fields are those of `Settings`; numeric ones may be a `Schedule`, and those that count something are rounded.

    Raises:
        ArzooError: `interval` is no pair of shares of noise.
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

    def __post_init__(self) -> None:
        if self.interval is None:
            return
        pair = self.interval if isinstance(self.interval, tuple) else ()
        if not (len(pair) == 2 and all(isinstance(x, Real) for x in pair) and 0 <= pair[0] <= pair[1] <= 1):
            raise ArzooError(
                f"interval is a pair of shares of noise from 0 (clean) to 1 (pure noise), such as (0.0, 0.8), got "
                f"{self.interval!r}. Divide timesteps 0..999 of a diffusion head by 999."
            )

    def at(self, progress: Progress) -> Settings:
        """The numbers in force at one step, as a head sees them.

        Raises:
            ArzooError: A knob is out of range, or of another type; of a schedule, what it gives at this step.
        """
        return Settings(**{f.name: _value(f.name, getattr(self, f.name), progress) for f in fields(self)})

    def check(self) -> None:
        """Refuse what no step can have, for checkpoints: errors as those of `at`."""
        for step in (0, 1):
            self.at(Progress(step, steps=2, done=step, after=step + 1, total=2))


def _value(name: str, knob: Any, progress: Progress) -> Any:
    """A knob as a plain number, within its range; what a schedule gives for a knob that counts is rounded."""
    if name == "greedy" and not isinstance(knob, bool):
        raise ArzooError(f"greedy is True or False, got {knob!r}")
    if name not in RANGES or (knob is None and name == "max_timestep"):
        return knob
    whole, said = RANGES[name].whole, ""
    if callable(knob):
        knob = knob(progress)
        said = f"what the schedule of {name} gives at step {progress.step} of {progress.steps}, {knob!r},"
        if whole and isinstance(knob, Real) and math.isfinite(knob):
            knob = round(knob)
    check_knob(name, knob, said)
    return int(knob) if whole else knob
