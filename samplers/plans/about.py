"""Descriptions of plans, and the decorator that registers a plan with its description."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, get_args, get_type_hints

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.layout import Layout, Pyramid
from arzoo.core.plan import Plan, Readout

P = ParamSpec("P")
Orders = Literal["none", "one", "levels"]
Trial = Callable[[Layout, int, frozenset[str]], dict[str, Any]]

OWN = "the project's own"
"""Value of `About.paper` for plans that are not from a paper."""
_CALLER = ("layout", "given")
"""Arguments that are not options."""


@dataclass(frozen=True)
class Option:
    """An option of a plan.

    Attributes:
        name: Name of the argument.
        type: Type of the argument.
        text: The type as written in the signature.
        required: Whether the argument has no default.
        default: Default of the argument.
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
    """Description of a plan.

    Attributes:
        name: Registered name.
        paper: Title and year of the paper that introduced it, or `OWN`.
        section: Section of the paper.
        layouts: Classes of supported layouts.
        readouts: Supported readouts.
        orders: Number of random orders it needs: none, one, or one for each level of a pyramid.
        options: Options, including a random order if it needs one.
        given: Whether it schedules around positions that have a value already.
        trial: Function that chooses options for a backbone, see `trial_options`.
        canvas: Function of a layout and the option `levels` that returns the pyramid the plan orders, for plans with
            one random order per level.
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
    canvas: Callable[..., Pyramid] | None = None

    def option(self, name: str) -> Option | None:
        """Option by name, None if the plan has no such option."""
        return next((option for option in self.options if option.name == name), None)

    def require(self, layout: object) -> None:
        """Check that the plan supports a layout.

        Raises:
            ArzooError: It does not; the message names its layouts, and the plans for this one.
        """
        if not isinstance(layout, self.layouts):
            fitting = [about.name for about in plans() if isinstance(layout, about.layouts)]
            raise ArzooError(
                f"plan {self.name!r} needs a {' or '.join(self.layout_names())} layout, got {layout}. "
                f"Plans for this layout: {', '.join(fitting)}."
            )

    def layout_names(self) -> list[str]:
        """Names of the supported layouts, in lower case."""
        return [layout.__name__.lower() for layout in self.layouts]

    def trial_options(self, layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
        """Options with which the plan is most likely to fit a backbone.

        Args:
            layout: Positions.
            extras: Number of learned extra inputs of the backbone.
            readouts: Readouts that the backbone supports.

        Raises:
            ArzooError: The plan does not support the layout.
        """
        self.require(layout)
        return self.trial(layout, extras, readouts)

    def with_readout(self, readout: str) -> str:
        """Name of the plan, with the option that selects this readout if it is not the default."""
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
    canvas: Callable[..., Pyramid] | None = None,
) -> Callable[[Callable[P, Plan]], Callable[P, Plan]]:
    """Register a plan under the name of its function; used as a decorator.

    The annotation of the argument `layout` defines the supported layouts; others are refused before the call.

    Args:
        paper: Title and year of the paper that introduced it, or `OWN`.
        readouts: Supported readouts.
        section: Section of the paper.
        orders: Number of random orders in its argument `orders`.
        trial: Function of (layout, number of extra inputs, readouts) that chooses options; by default none are needed.
        canvas: See `About`.
    """

    def decorate(function: Callable[P, Plan]) -> Callable[P, Plan]:
        description = _about(
            function,
            paper=paper,
            readouts=readouts,
            section=section,
            orders=orders,
            trial=trial,
            canvas=canvas,
        )

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> Plan:
            description.require(args[0] if args else kwargs["layout"])
            return function(*args, **kwargs)

        build.about = description  # type: ignore[attr-defined]
        return registry.register("plan")(build)

    return decorate


def about(name: str) -> About:
    """Description of a registered plan; if it was registered without `plan`, only what its signature shows.

    Raises:
        UnknownName: There is no such plan.
    """
    function = registry.lookup("plan", name)
    description: About = getattr(function, "about", None) or _about(function)
    return description


def plans() -> list[About]:
    """Descriptions of all registered plans."""
    return [about(name) for name in registry.names("plan")]


def named(abouts: Iterable[About], readouts: Iterable[str]) -> str:
    """Names of the plans that support one of the readouts, for messages."""
    texts = [
        about.with_readout(readout) for readout in readouts for about in abouts if readout in about.readouts
    ]
    return ", ".join(texts)


def _about(function: Callable[..., Plan], **facts: Any) -> About:
    """Description from the given facts and from the signature."""
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
