"""Lengths: after how many steps of the plan a search compares its candidates.

A step of a plan with one token per group is a token; of a model over scales, a scale.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError


def geometric(steps: int, base: float = 2.0) -> tuple[int, ...]:
    """1, 2, 4, ... up to all steps; powers of `base`, which is above 1, rounded down."""
    if not 1 < base < math.inf:
        raise ArzooError(f"geometric lengths need a finite base above 1, got {base!r}")
    if (base - 1) * steps <= 1:  # powers that are less than 1 apart leave no number out
        return fixed(steps)
    lengths = [1]
    for exponent in itertools.count(1):
        if lengths[-1] == steps:
            break
        length = min(int(base**exponent), steps)
        if length > lengths[-1]:  # a small base repeats the first lengths
            lengths.append(length)
    return tuple(lengths)


def linear(steps: int, size: int) -> tuple[int, ...]:
    """Every `size` steps, and after all of them."""
    size = whole_number(size, "size of linear lengths", least=1)
    return (*range(size, steps, size), steps)


def fixed(steps: int) -> tuple[int, ...]:
    """After every step."""
    return tuple(range(1, steps + 1))


def behind(lengths: Sequence[int] | None, steps: int, first: int) -> tuple[int, ...]:
    """Lengths behind a step, as given, or geometric ones.

    Raises:
        ArzooError: As `require_lengths`, or there is none.
    """
    return ahead(geometric(steps) if lengths is None else require_lengths(lengths, steps), first)


def beyond(lengths: Sequence[int] | None, steps: int, first: int) -> tuple[int, ...]:
    """Lengths counted from a step on, up to all steps: those of the published search that goes on with a prefix.

    Raises:
        ArzooError: As `require_lengths`.
    """
    counted = geometric(steps) if lengths is None else require_lengths(lengths, steps)
    return tuple(dict.fromkeys(min(first + length, steps) for length in counted))


def to_the_end(lengths: Sequence[int], steps: int, first: int) -> tuple[int, ...]:
    """Lengths behind a step, as given, and all steps.

    Raises:
        ArzooError: As `require_lengths`.
    """
    checked = require_lengths(lengths, steps) if len(lengths) else ()
    return ahead((*(length for length in checked if length < steps), steps), first)


def ahead(lengths: Sequence[int], first: int) -> tuple[int, ...]:
    """Lengths behind a step.

    Raises:
        ArzooError: There is none.
    """
    remaining = tuple(length for length in lengths if length > first)
    if not remaining:
        raise ArzooError(
            f"the run is at step {first}, behind all lengths {tuple(lengths)} of the search: give longer lengths"
        )
    return remaining


def require_lengths(lengths: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return lengths that are explicitly given, checked.

    Raises:
        ArzooError: They are not whole numbers that rise, from 1 to the number of steps.
    """
    checked = [whole_number(length, "each of lengths", least=1) for length in lengths]
    rising = all(a < b for a, b in itertools.pairwise(checked))
    if not checked or not rising or checked[-1] > steps:
        raise ArzooError(
            f"lengths must rise from at least 1 to at most {steps}, the steps of the plan, got {tuple(checked)}; "
            f"for example geometric({steps}) = {geometric(steps)}"
        )
    return tuple(checked)
