"""Schedules: functions of the progress of a run. Every numeric knob of `Control` takes one.

Published loops count differently, so each schedule says which count it is a function of. Schedules returned by the
functions of this module carry their name and arguments, so that a checkpoint can store them (`Stored.to_dict`,
`from_dict`).
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ParamSpec

from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import Control, Progress, Schedule

P = ParamSpec("P")
KEY = "schedule"


@dataclass(frozen=True)
class Stored:
    """A schedule that can be stored.

    Attributes:
        name: Name of the function of this module that returned it.
        arguments: Arguments of that function: numbers, strings and other schedules.
        function: The schedule itself.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...]
    function: Schedule = field(compare=False, repr=False)

    def __call__(self, progress: Progress) -> float:
        """Evaluate the schedule."""
        return self.function(progress)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data."""
        return {KEY: self.name, **{key: to_data(value) for key, value in self.arguments}}


SCHEDULES: dict[str, Callable[..., Stored]] = {}


def _stored(make: Callable[P, Schedule]) -> Callable[P, Stored]:
    """Decorate a function that returns a schedule, so that the schedule can be stored."""

    @functools.wraps(make)
    def stored(*args: P.args, **kwargs: P.kwargs) -> Stored:
        given = inspect.signature(make).bind(*args, **kwargs)
        given.apply_defaults()
        return Stored(make.__name__, tuple(given.arguments.items()), make(*args, **kwargs))

    SCHEDULES[make.__name__] = stored
    return stored


def to_data(value: Any) -> Any:
    """Convert a number or a schedule to plain data.

    Raises:
        ArzooError: It is a function that is not from this module, which cannot be stored.
    """
    if isinstance(value, Stored):
        return value.to_dict()
    if callable(value):
        raise ArzooError(
            f"the schedule {getattr(value, '__qualname__', value)} is code and cannot be stored with a checkpoint. "
            f"Use one of arzoo.samplers.schedules: {', '.join(SCHEDULES)}."
        )
    return value


def from_dict(data: Mapping[str, Any]) -> Stored:
    """Inverse of `Stored.to_dict`.

    Raises:
        UnknownName: There is no such schedule, or it has no such argument.
        ArzooError: An argument is missing, has the wrong type or is out of range.
    """
    name = str(data.get(KEY))
    if name not in SCHEDULES:
        raise UnknownName("schedule", name, SCHEDULES)
    make, given = SCHEDULES[name], {key: value for key, value in data.items() if key != KEY}
    hints, parameters = typing.get_type_hints(make), inspect.signature(make).parameters
    for key, value in given.items():
        if key not in parameters:
            raise UnknownName(f"argument of schedule {name!r}", key, parameters)
        inner = isinstance(value, Mapping) and Schedule in typing.get_args(hints[key])
        given[key] = from_dict(value) if inner else checked(value, hints[key], key)
        if isinstance(given[key], float) and not math.isfinite(given[key]):
            raise ArzooError(f"argument {key!r} of schedule {name!r} must be finite, got {value}")
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in given]
    if missing:
        raise ArzooError(f"schedule {name!r} needs {', '.join(missing)}")
    return make(**given)


@_stored
def constant(value: int | float) -> Schedule:
    """The same number at every step."""
    return lambda progress: value


@_stored
def over_steps(first: float, last: float) -> Schedule:
    """Linear in the step, `first` at step 0 and `last` at the final step (xAR, FlowAR, VAR)."""
    return lambda p: first + (last - first) * p.step / max(p.steps - 1, 1)


@_stored
def cosine_over_steps(first: float, last: float) -> Schedule:
    """Half a cosine from `first` at step 0 to `last` at the final step."""
    return lambda p: last + (first - last) * (1 + math.cos(math.pi * p.step / max(p.steps - 1, 1))) / 2


@_stored
def rising(last: float) -> Schedule:
    """Linear in the step, from 1 at step 0 towards `last`, which it would reach after the final step (TiTok, 2024).

    TiTok's guidance g, "linear", is `rising(1 + g)`: it adds g times the difference of the branches to the conditional
    logits, while a scale here multiplies that difference from the null logits on.
    """
    return lambda p: 1 + (last - 1) * p.step / p.steps


@_stored
def power_cosine(scale: float, power: float) -> Schedule:
    """Half a cosine over a power of the step, from 1 at step 0 towards `scale` (TiTok and RAR, 2024)."""
    return lambda p: 1 + (scale - 1) * (1 - math.cos(math.pi * (p.step / p.steps) ** power)) / 2


@_stored
def falling(first: float, soften: bool = False) -> Schedule:
    """Temperature that falls linearly to 0 after the final step, where the most likely code is drawn (TiTok, 2024).

    Args:
        first: Temperature before the first step.
        soften: Also divide logits by 0.5 + 0.8 (1 - r), where r is the share of steps done, as in TiTok's evaluation.
    """

    def temperature(p: Progress) -> float:
        left = 1 - (p.step + 1) / p.steps
        return max(first * left * (0.5 + 0.8 * left if soften else 1.0), 1e-5)

    return temperature


@_stored
def over_tokens(first: float, last: float) -> Schedule:
    """Linear in the number of tokens known after the step (MAR, Hi-MAR); it never reaches `last`, as published."""
    return lambda p: first + (last - first) * min(p.after, p.total - 1) / p.total


@_stored
def by_stage(first: int | float | Schedule, second: int | float | Schedule) -> Schedule:
    """One value or schedule for each of the two stages of a plan (Hi-MAR: pivots, then dense tokens).

    Raises:
        ArzooError: At a step of a third stage.
    """
    values = first, second

    def chosen(p: Progress) -> float:
        if p.stage >= len(values):
            raise ArzooError(
                f"by_stage has values for {len(values)} stages, and the plan has one more: stage {p.stage}"
            )
        value = values[p.stage]
        return value(p) if callable(value) else value

    return chosen


@_stored
def until_step(value: float, last: int) -> Schedule:
    """`value` up to a decoding step, then 1 (LlamaGen's `cfg_interval`, which counts steps after the first token)."""
    return lambda p: value if p.step - 1 <= last else 1.0


@_stored
def until_tokens(value: float, last: int) -> Schedule:
    """`value` while at most `last` tokens are done, then 1 (NAR's `cfg_interval`)."""
    return lambda p: value if p.done <= last else 1.0


@_stored
def within(scale: float | Schedule, first: float, last: float) -> Schedule:
    """`scale` while the share of tokens that are done is in [first, last), otherwise 1."""

    def inside(p: Progress) -> float:
        if not first <= p.done / p.total < last:
            return 1.0
        return scale(p) if callable(scale) else scale

    return inside


@_stored
def anneal(early: int, late: int, shape: str = "linear") -> Schedule:
    """Number of head steps, from `early` to `late`.

    "DiSA: Diffusion Step Annealing in Autoregressive Image Generation", 2025.

    Args:
        early: Head steps at the first group.
        late: Head steps at the last group.
        shape: "linear", "cosine", "two-stage" or "constant" (always `late`), a key of `SHAPES`.

    Raises:
        ArzooError: A number of steps is below 1.
        UnknownName: There is no such shape.
    """
    if min(early, late) < 1:
        raise ArzooError(
            f"head steps cannot be annealed to 0: got {early} to {late}, both must be at least 1"
        )
    if shape not in SHAPES:
        raise UnknownName("schedule of head steps", shape, SHAPES)
    share = SHAPES[shape]
    return lambda p: early if p.steps == 1 else int(share(p.step, p.steps - 1) * (early - late)) + late


SHAPES: dict[str, Callable[[int, int], float]] = {
    "linear": lambda step, last: (last - step) / last,
    "cosine": lambda step, last: (1 + math.cos(math.pi * step / last)) / 2,
    "two-stage": lambda step, last: float(step < last / 2),
    "constant": lambda step, last: 0.0,
}
"""Weight of `early` against `late` at a step; `last` is the last step (DiSA, section 3)."""


def control_to_data(control: Control) -> dict[str, Any]:
    """Convert the knobs to plain data, for checkpoints and records.

    `more_smooth` is left out while it is off, as in records of before there was such a knob.

    Raises:
        ArzooError: A schedule is not from this module, or a knob is out of range.
    """
    control.check()
    values = {f.name: getattr(control, f.name) for f in fields(control)}
    if not control.more_smooth:
        del values["more_smooth"]
    return {name: list(v) if isinstance(v, tuple) else to_data(v) for name, v in values.items()}


def control_from_data(data: Mapping[str, Any]) -> Control:
    """Inverse of `control_to_data`.

    Raises:
        UnknownName: There is no such knob, or no such schedule.
        ArzooError: A value has the wrong type or is out of range.
    """
    defaults, scheduled = {f.name: f.default for f in fields(Control)}, _scheduled()
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in defaults:
            raise UnknownName("knob", name, defaults)
        if isinstance(value, Mapping) and name in scheduled:
            values[name] = from_dict(value)
        elif _fits(value, defaults[name]):
            values[name] = tuple(value) if isinstance(value, list) else value
        else:
            raise ArzooError(f"knob {name!r} cannot be {value!r}")
    control = Control(**values)
    control.check()
    return control


def _scheduled() -> set[str]:
    """Knobs that take a schedule."""
    return {f.name for f in fields(Control) if "Schedule" in str(f.type)}


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of a knob's default; knobs with default None accept any plain value."""
    if default is None:
        return not isinstance(value, Mapping)
    if isinstance(default, (bool, str)):
        return type(value) is type(default)
    return type(value) in (int, type(default)) and math.isfinite(value)
