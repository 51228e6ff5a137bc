"""Schedules: functions of the progress of a run. Every numeric knob of `Control` takes one.

Published loops count differently, so each schedule says what it is a function of.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from arzoo.control import Schedule
from arzoo.errors import ArzooError, UnknownName


def constant(value: float) -> Schedule:
    """The same number at every step."""
    return lambda progress: value


def over_steps(first: float, last: float) -> Schedule:
    """Linear in the step, `first` at step 0 and `last` at the final step (xAR, FlowAR, VAR)."""
    return lambda p: first + (last - first) * p.step / max(p.steps - 1, 1)


def cosine_over_steps(first: float, last: float) -> Schedule:
    """Half a cosine from `first` at step 0 to `last` at the final step."""
    return lambda p: last + (first - last) * (1 + math.cos(math.pi * p.step / max(p.steps - 1, 1))) / 2


def over_tokens(first: float, last: float) -> Schedule:
    """Linear in the tokens known after the step (MAR, Hi-MAR); it never quite reaches `last`, as published."""
    return lambda p: first + (last - first) * min(p.after, p.total - 1) / p.total


def until_step(value: float, last: int) -> Schedule:
    """`value` up to a decode step, then 1 (LlamaGen's `cfg_interval`; its decode steps start after the first token)."""
    return lambda p: value if p.step - 1 <= last else 1.0


def until_tokens(value: float, last: int) -> Schedule:
    """`value` while at most this many tokens are done, then 1 (NAR's `cfg_interval`)."""
    return lambda p: value if p.done <= last else 1.0


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
"""Share of the way from `late` to `early` at a step, the last one being `last` (DiSA, section 3)."""
