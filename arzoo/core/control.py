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
            ArzooError: A schedule gives something that is no finite number.
        """
        return Settings(**{f.name: _value(f.name, getattr(self, f.name), progress) for f in fields(self)})


_COUNTS = frozenset({"top_k", "head_steps", "max_timestep"})
"""Knobs that are whole numbers; a schedule may pass between them."""


def _value(name: str, knob: Any, progress: Progress) -> Any:
    if callable(knob):
        number = knob(progress)
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ArzooError(
                f"the schedule of {name} gives {number!r} at step {progress.step} of {progress.steps}; it must give a "
                "finite number at every step"
            )
        knob = number
    return round(knob) if name in _COUNTS and knob is not None else knob
