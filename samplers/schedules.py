"""Schedules: functions of the progress of a run. Every numeric knob of `Control` takes one.

Published loops count differently, so each schedule says what it is a function of.
"""

from __future__ import annotations

import math

from arzoo.control import Progress, Schedule
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


_SHAPES = ("linear", "cosine", "two-stage", "constant")


def anneal(early: int, late: int, shape: str = "linear") -> Schedule:
    """Number of head steps, from `early` to `late`.

    "DiSA: Diffusion Step Annealing in Autoregressive Image Generation", 2025.

    Args:
        early: Head steps at the first group.
        late: Head steps at the last group.
        shape: "linear", "cosine", "two-stage" or "constant" (always `late`).

    Raises:
        ArzooError: A count is below 1, or there is no such shape.
    """
    if min(early, late) < 1:
        raise ArzooError(f"head steps are annealed between counts of at least 1, got {early} to {late}")
    if shape not in _SHAPES:
        raise UnknownName("shape of annealing", shape, _SHAPES)

    def share(p: Progress) -> float:
        last = p.steps - 1
        shares = {
            "linear": (last - p.step) / last,
            "cosine": (1 + math.cos(math.pi * p.step / last)) / 2,
            "two-stage": float(p.step < last / 2),
            "constant": 0.0,
        }
        return shares[shape]

    return lambda p: early if p.steps == 1 else int(share(p) * (early - late)) + late
