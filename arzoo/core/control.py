"""Control: every knob of sampling, each a number or a schedule over the progress of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from arzoo.base.errors import ArzooError, UnknownName


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
        interval: Range of head times (the t of a solver) in which guidance acts; None is always.
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
    """The knobs of a run. Fields are those of `Settings`; numeric ones may be a `Schedule`."""

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

    def at(self, progress: Progress) -> Settings:
        """The numbers in force at one step."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Settings(**{name: v(progress) if callable(v) else v for name, v in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """The knobs as plain data, for checkpoints and records.

        Raises:
            ArzooError: A schedule is none of `arzoo.samplers.schedules`.
        """
        from arzoo.samplers.schedules import to_data

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else to_data(v) for name, v in values.items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Control:
        """Inverse of `to_dict`.

        Raises:
            UnknownName: There is no such knob, or no such schedule.
            ArzooError: A value is of another type.
        """
        from arzoo.samplers.schedules import from_dict

        defaults, scheduled = {f.name: f.default for f in fields(Control)}, _scheduled()
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in defaults:
                raise UnknownName("knob", name, defaults)
            values[name] = tuple(value) if isinstance(value, list) else value
            tried = value
            if isinstance(value, Mapping) and name in scheduled:
                values[name] = from_dict(value)
                tried = values[name](Progress(step=0, steps=2, done=0, after=1, total=2))
            if not _fits(tried, defaults[name]):
                raise ArzooError(f"knob {name!r} cannot be {value!r}")
        return Control(**values)


def _scheduled() -> set[str]:
    """Knobs that take a schedule."""
    return {f.name for f in fields(Control) if "Schedule" in str(f.type)}


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of a knob's default; those that are None by default hold anything plain."""
    if default is None:
        return not isinstance(value, Mapping)
    if isinstance(default, (bool, str)):
        return type(value) is type(default)
    return type(value) in (int, type(default)) and math.isfinite(value)
