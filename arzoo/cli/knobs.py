"""Sampling options as text, and the `Control` they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arzoo.errors import ArzooError

if TYPE_CHECKING:
    from arzoo.control import Control, Progress, Schedule


LARGEST = 1e4
"""Scales beyond it overflow."""


def numbers(text: str, option: str) -> list[float]:
    """One number, or two with a colon between them.

    Raises:
        ArzooError: It is neither.
    """
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) not in (1, 2) or not all(abs(number) <= LARGEST for number in found):
        raise ArzooError(
            f"{option} {text!r} is not a number up to {LARGEST:g}, or two with a colon between them such as 1:4"
        )
    return found


def guidance(text: str, schedule: str, interval: str | None) -> float | Schedule:
    """Guidance scale over the run.

    Args:
        text: A number, or "a:b" for a schedule from a to b.
        schedule: "linear" or "cosine", the shape of "a:b".
        interval: "from:to", shares of the run outside of which guidance is off.
    """
    from arzoo.samplers import schedules

    ends = numbers(text, "--guidance")
    shapes = {"linear": schedules.over_steps, "cosine": schedules.cosine_over_steps}
    scale: float | Schedule = ends[0] if len(ends) == 1 else shapes[schedule](*ends)
    if interval is None:
        return scale
    bounds = numbers(interval, "--guidance-interval")
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 1:
        raise ArzooError(
            f"--guidance-interval {interval!r} must be two shares of the run, for example 0.1:0.8"
        )

    def inside(progress: Progress) -> float:
        if not bounds[0] <= progress.done / progress.total < bounds[1]:
            return 1.0
        return scale(progress) if callable(scale) else scale

    return inside


def control(default: Control, knobs: dict[str, Any]) -> Control:
    """The checkpoint's own knobs with those changed that were given.

    Args:
        default: Knobs of the checkpoint.
        knobs: guidance, guidance_schedule, guidance_interval, temperature, top_k, top_p, greedy; None or False leaves a
            knob as it is.

    Raises:
        ArzooError: A knob is out of range.
    """
    ranges: dict[str, tuple[float, float]] = {"temperature": (0, 100), "top_k": (0, 2**31), "top_p": (0, 1)}
    changes: dict[str, Any] = {}
    for name, (low, high) in ranges.items():
        value = knobs[name]
        if value is None:
            continue
        if not low <= value <= high or (value == 0 and name != "top_k"):
            hint = " For the most likely code use --greedy." if name == "temperature" else ""
            raise ArzooError(
                f"--{name.replace('_', '-')} {value:g} is out of range: {low:g} to {high:g}.{hint}"
            )
        changes[name] = value
    if knobs["greedy"]:
        changes["greedy"] = True
    if knobs["guidance"] is not None or knobs["guidance_interval"] is not None:
        if knobs["guidance"] is None and callable(default.guidance):
            raise ArzooError(
                "--guidance-interval needs --guidance: the checkpoint's own guidance is a schedule"
            )
        text = str(default.guidance) if knobs["guidance"] is None else knobs["guidance"]
        changes["guidance"] = guidance(text, knobs["guidance_schedule"], knobs["guidance_interval"])
    return replace(default, **changes)
