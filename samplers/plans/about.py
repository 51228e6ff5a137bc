"""What a plan says of itself, and the decorator that registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Layout

F = TypeVar("F", bound=Callable[..., Any])
FROM_CALLER = ("layout", "orders", "given")
"""Arguments of plans that come from the caller, not from settings."""


@dataclass(frozen=True)
class Trial:
    """A backbone that a plan is tried with, as far as options depend on it.

    Attributes:
        layout: Positions of its canvas.
        extras: Learned inputs it has.
        readouts: Readouts it understands.
    """

    layout: Layout
    extras: int
    readouts: frozenset[str]


def _no_options(trial: Trial) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class About:
    """What others need to know of a plan.

    Attributes:
        paper: Where the order comes from; "arzoo" for one of our own.
        readouts: Readouts its plans can have, the usual one first.
        layouts: Kinds of layouts it orders.
        orders: Random orders it needs: none, one over all positions, or one a level of a pyramid.
        trial: Options that suit a backbone, for tables of what fits.
    """

    paper: str
    readouts: tuple[str, ...]
    layouts: tuple[type, ...]
    orders: Literal["none", "one", "a level"] = "none"
    trial: Callable[[Trial], dict[str, Any]] = field(default=_no_options, repr=False)


def plan(
    paper: str,
    *readouts: str,
    layouts: tuple[type, ...],
    orders: Literal["none", "one", "a level"] = "none",
    trial: Callable[[Trial], dict[str, Any]] = _no_options,
) -> Callable[[F], F]:
    """Decorator that registers a function from a layout to a plan under its own name. Arguments as those of `About`."""

    def decorate(function: F) -> F:
        function.about = About(paper, readouts, layouts, orders, trial)  # type: ignore[attr-defined]
        return registry.register("plan")(function)

    return decorate


def about(name: str) -> About:
    """What a registered plan says of itself; a plug-in that says nothing is taken for a plan of any layout.

    Raises:
        UnknownName: There is no such plan.
    """
    function = registry.lookup("plan", name)
    found = getattr(function, "about", None)
    return found if isinstance(found, About) else About("a plug-in", ("shifted",), (object,))


def options(name: str) -> dict[str, inspect.Parameter]:
    """Settings of a registered plan: its arguments that do not come from the caller."""
    parameters = inspect.signature(registry.lookup("plan", name)).parameters
    return {key: value for key, value in parameters.items() if key not in FROM_CALLER}


def with_readout(readout: str) -> list[str]:
    """Names of the plans that can have a readout, with the option that gives it where it is not the usual one."""
    found = []
    for name in registry.names("plan"):
        readouts = about(name).readouts
        if readout in readouts:
            found.append(name if readout == readouts[0] else f"{name} with option readout={readout}")
    return found


def need_grid(layout: Layout, name: str) -> Grid:
    """The layout, if it is a grid.

    Raises:
        ArzooError: It is another one.
    """
    if not isinstance(layout, Grid):
        others = [n for n in registry.names("plan") if about(n).layouts == ANY]
        raise ArzooError(
            f"plan {name!r} needs a grid layout, got {layout}. Plans for any layout: {', '.join(others)}."
        )
    return layout


ANY: tuple[type, ...] = (object,)
"""Layouts of a plan that orders any positions."""
