"""Sampling options as text, and the `Control` they stand for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError, UsageError

if TYPE_CHECKING:
    from arzoo.core.control import Control, Schedule
    from arzoo.core.plan import Plan
    from arzoo.core.tokens import Tokens
    from arzoo.generation.generator import Generator


@contextlib.contextmanager
def misuse() -> Iterator[None]:
    """Turn what the library refuses into wrong use, where it refuses what somebody typed."""
    try:
        yield
    except ArzooError as error:
        raise UsageError(str(error)) from error


LARGEST = 1e4
"""Scales beyond it overflow."""


def numbers(text: str, option: str) -> list[float]:
    """One number, or two with a colon between them.

    Raises:
        UsageError: It is neither.
    """
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) not in (1, 2) or not all(abs(number) <= LARGEST for number in found):
        raise UsageError(
            f"{option} {text!r} is not a number up to {LARGEST:g}, or two with a colon between them such as 1:4"
        )
    return found


def guidance(text: str, schedule: str | None = None) -> float | Schedule:
    """Guidance scale over the run.

    Args:
        text: A number, or "a:b" for a schedule from a to b.
        schedule: "linear", "cosine" or "tokens", the shape of "a:b"; linear if None.
    """
    from arzoo.samplers import schedules

    ends = numbers(text, "--guidance")
    shapes = {"linear": schedules.over_steps, "cosine": schedules.cosine_over_steps}
    shapes["tokens"] = schedules.over_tokens
    return ends[0] if len(ends) == 1 else shapes[schedule or "linear"](*ends)


def inside(scale: float | Schedule, interval: str) -> Schedule:
    """Guidance that acts in a part of the run, "from:to" as shares of it."""
    from arzoo.samplers import schedules

    bounds = numbers(interval, "--guidance-interval")
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 1:
        raise UsageError(
            f"--guidance-interval {interval!r} must be two shares of the run, for example 0.1:0.8"
        )
    return schedules.within(scale, *bounds)


CLIP = 950
"""Largest timestep of annealed diffusion (DiSA, 2025): with few steps, the first one from 999 on would explode."""


def head(default: Control, knobs: dict[str, Any]) -> dict[str, Any]:
    """The settings of a diffusion or flow head that were given, as fields of `Control`.

    Args:
        default: Knobs of the checkpoint.
        knobs: head_steps, head_schedule, head_solver, max_timestep; None leaves a knob as it is.

    Raises:
        UsageError: A number is out of range.
    """
    from arzoo.samplers import schedules

    changes: dict[str, Any] = {}
    if knobs["head_steps"] is not None:
        ends = numbers(knobs["head_steps"], "--head-steps")
        if not all(end.is_integer() and 1 <= end <= 1000 for end in ends):
            raise UsageError(f"--head-steps {knobs['head_steps']!r} must be whole numbers from 1 to 1000")
        early, late = int(ends[0]), int(ends[-1])
        changes["head_steps"] = early
        if len(ends) == 2:
            changes["head_steps"] = schedules.anneal(early, late, knobs["head_schedule"] or "linear")
            changes["max_timestep"] = CLIP if default.max_timestep is None else default.max_timestep
    if knobs["head_solver"] is not None:
        changes["solver"] = knobs["head_solver"]
    if knobs["max_timestep"] is not None:
        text = knobs["max_timestep"]
        if text != "off" and not (text.isdecimal() and 1 <= int(text) <= 999):
            raise UsageError(f"--max-timestep {text!r} must be 1 to 999, or off")
        changes["max_timestep"] = None if text == "off" else int(text)
    return changes


def with_steps(model: Generator, steps: int) -> Generator:
    """The model drawing in another number of steps.

    Raises:
        UsageError: Its plan has no free number of steps, or cannot do so few or many.
    """
    from arzoo.samplers.plans.about import about

    if about(model.plan_name).option("steps") is None or model.plan().stages > 1:
        raise UsageError(
            f"--steps is for masked models: plan {model.plan_name!r} of this one always takes {len(model.plan())} steps"
        )
    with misuse():
        return model.with_plan(steps=steps)


def open_steps(plan: Plan, given: Tokens | None) -> list[int]:
    """Steps of a plan in which anything is left to draw, where the same is given in all pictures."""
    from arzoo.core.pyramid import on_canvas

    if given is None:
        return list(range(len(plan)))
    there = on_canvas(given, plan.layout).given[:1].cpu()
    return [k for k, group in enumerate(plan.groups) if not bool(there.gather(1, group).all())]


def head_calls(model: Generator, plan: Plan, knobs: Control, steps: Sequence[int]) -> int:
    """How often heads are evaluated for a picture, branches of guidance counted once.

    Args:
        model: Its heads draw.
        plan: The order of a picture.
        knobs: The settings.
        steps: Those in which something is drawn.

    Raises:
        ArzooError: A head cannot draw with the settings of some step.
    """
    return sum(model.heads[plan.stage[k]].evaluations(knobs.at(plan.progress(k))) for k in steps)


def idle(model: Generator, knobs: dict[str, Any], control: Control) -> list[str]:
    """Remarks on given options that have no effect.

    Args:
        model: Its heads draw.
        knobs: The options, None or False where they were not given.
        control: The settings that came of them.
    """
    kind = "codes" if model.tokenizer.spec.discrete else "vectors"
    heads = ", ".join(type(head).__name__ for head in model.heads)
    solver = f" and solver {control.solver}" if control.solver else ""
    heeded = frozenset().union(*(head.heeded(control.solver) for head in model.heads))
    remarks = [
        f"--{option.replace('_', '-')} has no effect: this model draws {kind} with head {heads}{solver}"
        for option, name in _OF_HEADS.items()
        if knobs[option] not in (None, False) and name not in heeded
    ]
    for option, schedule in (("guidance", "guidance_schedule"), ("head_steps", "head_schedule")):
        if knobs[schedule] is not None and ":" not in (knobs[option] or ""):
            names = schedule.replace("_", "-"), option.replace("_", "-")
            remarks.append("--{} has no effect: it is how --{} A:B goes from A to B".format(*names))
    return remarks


_OF_HEADS = {name: name for name in ("temperature", "top_k", "top_p", "greedy", "head_steps", "max_timestep")}
_OF_HEADS["head_solver"] = "solver"
"""Options that act in heads, and the fields of `Settings` they become."""


def control(default: Control, knobs: dict[str, Any]) -> Control:
    """The checkpoint's own knobs with those changed that were given.

    Args:
        default: Knobs of the checkpoint.
        knobs: guidance, guidance_schedule, guidance_interval, temperature, top_k, top_p, greedy and those of `head`;
            None or False leaves a knob as it is.

    Raises:
        UsageError: A knob is out of range.
    """
    ranges: dict[str, tuple[float, float]] = {"temperature": (0, 100), "top_k": (0, 2**31), "top_p": (0, 1)}
    changes = head(default, knobs)
    for name, (low, high) in ranges.items():
        value = knobs[name]
        if value is None:
            continue
        if not low <= value <= high or (value == 0 and name != "top_k"):
            hint = " For the most likely code use --greedy." if name == "temperature" else ""
            raise UsageError(
                f"--{name.replace('_', '-')} {value:g} is out of range: {low:g} to {high:g}.{hint}"
            )
        changes[name] = value
    if knobs["greedy"]:
        changes["greedy"] = True
    if knobs["guidance"] is not None:
        changes["guidance"] = guidance(knobs["guidance"], knobs["guidance_schedule"])
    if knobs["guidance_interval"] is not None:
        scale = changes.get("guidance", default.guidance)
        changes["guidance"] = inside(scale, knobs["guidance_interval"])
    return replace(default, **changes)
