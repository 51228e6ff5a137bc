"""Sampling options as text, and the `Control` that they set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.registry import called
from arzoo.core.control import RANGES, check_knob

if TYPE_CHECKING:
    from arzoo.core.control import Control, Schedule
    from arzoo.generation.generator import Generator


@contextlib.contextmanager
def misuse() -> Iterator[None]:
    """Turn errors of the library about typed options into errors of wrong use."""
    try:
        yield
    except ArzooError as error:
        raise UsageError(str(error)) from error


def numbers(text: str, knob: str, option: str = "") -> list[float]:
    """Parse one number, or two with a colon between them, in the range of a knob.

    Raises:
        UsageError: The text is neither, or a number is out of range.
    """
    option = option or f"--{knob.replace('_', '-')}"
    try:
        ends = [float(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2):
        raise UsageError(f"{option} {text!r} is not a number, or two with a colon between them such as 1:4")
    with misuse():
        for end in ends:
            check_knob(knob, end, f"{option} {text!r}")
    return ends


def per_stage(text: str, option: str, parse: Callable[[str], Any]) -> Any:
    """Parse the value of a knob, or two with a comma between them for the stages of a plan, "2.7,1:2.5".

    Raises:
        UsageError: There are more than two, or one is empty.
    """
    from arzoo.samplers import schedules

    parts = text.split(",")
    if len(parts) == 1:
        return parse(text)
    if len(parts) > 2 or not all(part.strip() for part in parts):
        raise UsageError(
            f"{option} {text!r} must be one value for all stages, or one for each of two such as 2.7,2.5"
        )
    return schedules.by_stage(*map(parse, parts))


def plan_of(text: str) -> tuple[str, dict[str, Any]]:
    """Parse the name of a plan and its options, "zipar:distance=4".

    Raises:
        UsageError: An option has no value, or is given twice.
        ArzooError: A value cannot be read.
    """
    from arzoo.base.config import load_yaml
    from arzoo.base.parser import named

    name, options = named(text, "--plan", "zipar:distance=4")
    return name, {option: load_yaml(value) for option, value in options.items()}


def size_of(text: str) -> tuple[int, int]:
    """Parse the size of pictures, "96x48", and return their (height, width).

    Raises:
        UsageError: The text is no width and height of at least 1 pixel.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--size {text!r} is no width and height in pixels, such as 96x48")
    return int(height), int(width)


def guidance(text: str, schedule: str | None) -> float | Schedule:
    """Parse the guidance scale over the run.

    Args:
        text: A number, or "a:b" for a schedule from a to b; two of them with a comma for two stages.
        schedule: "linear", "cosine" or "tokens", the shape of "a:b"; linear if None.
    """
    from arzoo.samplers import schedules

    shapes = {"linear": schedules.over_steps, "cosine": schedules.cosine_over_steps}
    shapes["tokens"] = schedules.over_tokens

    def parse(part: str) -> float | Schedule:
        ends = numbers(part, "guidance")
        return ends[0] if len(ends) == 1 else shapes[schedule or "linear"](*ends)

    scale: float | Schedule = per_stage(text, "--guidance", parse)
    return scale


def inside(scale: float | Schedule, interval: str) -> Schedule:
    """Limit guidance to a part of the run, "from:to" as shares of it."""
    from arzoo.samplers import schedules

    bounds = numbers(interval, "guidance", "--guidance-interval")
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 1:
        raise UsageError(
            f"--guidance-interval {interval!r} must be two shares of the run, for example 0.1:0.8"
        )
    return schedules.within(scale, *bounds)


CLIP = 950
"""Largest timestep of annealed diffusion (DiSA, 2025): with few steps, the first one from 999 would diverge."""


def head(default: Control, knobs: dict[str, Any]) -> dict[str, Any]:
    """Return the typed settings of a diffusion or flow head as fields of `Control`.

    Args:
        default: Control of the checkpoint.
        knobs: head_steps, head_schedule, head_solver, max_timestep, head_window; None leaves a knob as it is.

    Raises:
        UsageError: A number is out of range.
    """
    from arzoo.samplers import schedules

    changes: dict[str, Any] = {}
    if knobs["head_steps"] is not None:
        text = knobs["head_steps"]

        def parse(part: str) -> int | Schedule:
            ends = numbers(part, "head_steps")
            if 0 in ends:
                raise UsageError(f"--head-steps {text!r} must be whole numbers from 1 to 1000")
            shape = knobs["head_schedule"] or "linear"
            return int(ends[0]) if len(ends) == 1 else schedules.anneal(int(ends[0]), int(ends[1]), shape)

        changes["head_steps"] = per_stage(text, "--head-steps", parse)
        if ":" in text:
            changes["max_timestep"] = CLIP if default.max_timestep is None else default.max_timestep
    if knobs["head_solver"] is not None:
        changes["solver"] = knobs["head_solver"]
    if knobs["max_timestep"] is not None:
        text = knobs["max_timestep"]
        if text != "off" and not (text.isdecimal() and len(text) < 5 and int(text) in RANGES["max_timestep"]):
            raise UsageError(f"--max-timestep {text!r} must be {RANGES['max_timestep']}, or off")
        changes["max_timestep"] = None if text == "off" else int(text)
    if (window := knobs["head_window"]) is not None:
        with misuse():
            check_knob("head_window", window, f"--head-window {window}")
        changes["head_window"] = window
    return changes


def idle(model: Generator, knobs: dict[str, Any], control: Control) -> list[str]:
    """Return remarks on typed options that have no effect.

    Args:
        model: The generator whose heads draw.
        knobs: The options; None or False where they were not typed.
        control: The control made from them.
    """
    from arzoo.generation.request import used_knobs

    kind = "codes" if model.tokenizer.spec.discrete else "vectors"
    heads = ", ".join(map(called, model.heads))
    solver = f" and solver {control.solver}" if control.solver else ""
    active = used_knobs(model, control)
    remarks = [
        f"--{option.replace('_', '-')} has no effect: this model draws {kind} with head {heads}{solver}"
        for option, name in _OF_HEADS.items()
        if knobs[option] not in (None, False) and name not in active
    ]
    if control.more_smooth and control.greedy:
        remarks.append("--more-smooth has no effect with --greedy, which takes the likeliest codes")
    for option, schedule in (("guidance", "guidance_schedule"), ("head_steps", "head_schedule")):
        if knobs[schedule] is not None and ":" not in (knobs[option] or ""):
            names = schedule.replace("_", "-"), option.replace("_", "-")
            remarks.append("--{} has no effect: it is how --{} A:B goes from A to B".format(*names))
    return remarks


_OF_HEADS = {
    name: name
    for name in ("temperature", "top_k", "top_p", "greedy", "more_smooth", "head_steps", "max_timestep")
}
_OF_HEADS["head_solver"] = "solver"
"""Options that act in heads, and the fields of `Settings` that they set."""


def control(default: Control, knobs: dict[str, Any], codes: bool = True) -> Control:
    """Return the checkpoint's control with the typed options changed.

    Args:
        default: Control of the checkpoint.
        knobs: guidance, guidance_schedule, guidance_interval, temperature, top_k, top_p, greedy, more_smooth and those
            of `head`; None or False leaves a knob as it is.
        codes: Whether the model draws codes.

    Raises:
        UsageError: A knob is out of range.
    """
    changes = head(default, knobs)
    for name in ("temperature", "top_k", "top_p"):
        value = knobs[name]
        if value is None:
            continue
        with misuse():
            check_knob(name, value, f"--{name.replace('_', '-')} {value:g}", codes)
        changes[name] = value
    changes |= {name: True for name in ("greedy", "more_smooth") if knobs[name]}
    if knobs["guidance"] is not None:
        changes["guidance"] = guidance(knobs["guidance"], knobs["guidance_schedule"])
    if knobs["guidance_interval"] is not None:
        scale = changes.get("guidance", default.guidance)
        changes["guidance"] = inside(scale, knobs["guidance_interval"])
    return replace(default, **changes)
