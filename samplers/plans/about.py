"""What a plan says of itself, and the decorator that registers it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, get_args, get_type_hints

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.layout import Layout
from arzoo.core.plan import Plan, Readout

P = ParamSpec("P")
Orders = Literal["none", "one", "levels"]
Trial = Callable[[Layout, int, frozenset[str]], dict[str, Any]]

OWN = "the project's own"
"""The paper of a plan that no paper introduced."""
_CALLER = ("layout", "given")
"""Arguments that come from the caller, not from settings."""


@dataclass(frozen=True)
class Option:
    """A setting of a plan.

    Attributes:
        name: Name of the argument.
        type: Its type.
        text: The type as it is written.
        required: Whether it has no default.
        default: What it is when nobody says.
    """

    name: str
    type: Any
    text: str
    required: bool
    default: Any = None

    def __str__(self) -> str:
        return f"{self.name}: {self.text}" + ("" if self.required else f" = {self.default!r}")


def _no_options(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class About:
    """What a plan says of itself.

    Attributes:
        name: Its registered name.
        paper: Title and year of the paper that introduced it, or `OWN`.
        section: Where in the paper.
        layouts: Classes of the layouts it takes.
        readouts: Readouts it can have.
        orders: How many random orders it needs: none, one, or one for each level of a pyramid.
        options: Its settings; a random order may be set as well.
        given: Whether it schedules around positions that have a value already.
        trial: Options that suit a backbone, from (layout, number of extra inputs, readouts); see `trial_options`.
    """

    name: str
    paper: str = OWN
    section: str = ""
    layouts: tuple[type, ...] = get_args(Layout)
    readouts: tuple[Readout, ...] = ()
    orders: Orders = "none"
    options: tuple[Option, ...] = ()
    given: bool = False
    trial: Trial = _no_options

    def option(self, name: str) -> Option | None:
        """One of the settings, None if the plan has no such setting."""
        return next((option for option in self.options if option.name == name), None)

    def require(self, layout: object) -> None:
        """Refuse a layout that the plan does not take.

        Raises:
            ArzooError: Names the layouts it takes, and the plans for this one.
        """
        if not isinstance(layout, self.layouts):
            fitting = [other.name for other in plans() if isinstance(layout, other.layouts)]
            raise ArzooError(
                f"plan {self.name!r} needs a {' or '.join(self.layout_names())} layout, got {layout}. "
                f"Plans for it: {', '.join(fitting)}."
            )

    def layout_names(self) -> list[str]:
        """Layouts it takes, as people write them."""
        return [layout.__name__.lower() for layout in self.layouts]

    def trial_options(self, layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
        """Options under which the plan has the best chance to fit a backbone.

        Args:
            layout: Positions.
            extras: Number of extra learned inputs of the backbone.
            readouts: Readouts that the backbone understands.

        Raises:
            ArzooError: The plan does not take the layout.
        """
        self.require(layout)
        return self.trial(layout, extras, readouts)

    def with_readout(self, readout: str) -> str:
        """The name, with the option that gives this readout if it is not the plan's default."""
        choice = self.option("readout")
        return (
            self.name
            if choice is None or choice.default == readout
            else f"{self.name} with option {readout=!s}"
        )


def plan(
    *,
    paper: str,
    readouts: tuple[Readout, ...],
    section: str = "",
    orders: Orders = "none",
    trial: Trial = _no_options,
) -> Callable[[Callable[P, Plan]], Callable[P, Plan]]:
    """Decorator that registers a plan under the name of its function.

    The annotation of the argument `layout` says which layouts it takes; others are refused before it is called.

    Args:
        paper: Title and year of the paper that introduced it, or `OWN`.
        readouts: Readouts it can have.
        section: Where in the paper.
        orders: How many random orders its argument `orders` needs.
        trial: Options that suit a backbone, from (layout, number of extra inputs, readouts); none by default.
    """

    def decorate(function: Callable[P, Plan]) -> Callable[P, Plan]:
        described = _about(
            function, paper=paper, readouts=readouts, section=section, orders=orders, trial=trial
        )

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> Plan:
            described.require(args[0] if args else kwargs["layout"])
            return function(*args, **kwargs)

        build.about = described  # type: ignore[attr-defined]
        return registry.register("plan")(build)

    return decorate


def about(name: str) -> About:
    """What a registered plan says of itself; of one that was registered without `plan`, what its signature says.

    Raises:
        UnknownName: There is no such plan.
    """
    function = registry.lookup("plan", name)
    described: About = getattr(function, "about", None) or _about(function)
    return described


def plans() -> list[About]:
    """All registered plans."""
    return [about(name) for name in registry.names("plan")]


def named(abouts: Iterable[About], readouts: Iterable[str]) -> str:
    """Names of those plans that have one of some readouts, for messages."""
    texts = [
        about.with_readout(readout) for readout in readouts for about in abouts if readout in about.readouts
    ]
    return ", ".join(texts)


def _about(function: Callable[..., Plan], **facts: Any) -> About:
    """The facts, and what the signature says."""
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    if "layout" in hints:
        facts["layouts"] = get_args(hints["layout"]) or (hints["layout"],)
    options = tuple(
        Option(
            name,
            hints.get(name, Any),
            str(parameter.annotation),
            parameter.default is parameter.empty,
            None if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in parameters.items()
        if name not in _CALLER
    )
    return About(function.__name__, options=options, given="given" in parameters, **facts)
