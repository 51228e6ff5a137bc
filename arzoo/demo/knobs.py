"""The knobs that the page shows of a model: those that have an effect on it, with their ranges and its own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import RANGES, Control, Range, Settings
from arzoo.generation.description import knob_text
from arzoo.generation.effort import with_steps
from arzoo.generation.generator import Generator
from arzoo.generation.request import used_knobs
from arzoo.samplers.plans.about import about
from arzoo.samplers.solvers import diffusion, flow

FIRST = ("guidance", "temperature")
"""Knobs that are seen at once; the others are under "More"."""

TEXTS = {
    "guidance": ("Guidance", "how closely to follow the class or text, 1 is off"),
    "temperature": ("Temperature", "lower is surer, higher is more varied"),
    "top_k": ("Top k", "draw one of the k most likely codes, 0 is all of them"),
    "top_p": ("Top p", "draw one of the likely codes that have this share together"),
    "greedy": ("Greedy", "always take the most likely code"),
    "steps": ("Steps", "fewer are faster"),
    "tokens": ("Tokens", "stop after so many, fewer are coarser"),
    "head_steps": ("Head steps", "solver steps for each group of tokens"),
    "solver": ("Solver", "of the head"),
    "max_timestep": ("First timestep", "where a diffusion head begins"),
    "head_window": ("Head window", "solver steps that one call checks, 1 drafts none"),
}
"""Label and explanation of every knob, in the order of the page. Beside those of `Control`, the number of steps of a
masked model and the number of tokens of a model over ordered ones."""

OPTIONS = {"solver": "head-solver"}
"""Options of `arzoo generate` that are not called as their knob."""


@dataclass(frozen=True)
class Knob:
    """A knob of a model.

    Attributes:
        name: A key of `TEXTS`.
        value: The model's own value; None where that is no single value.
        default: The model's own value in words.
        range: Numbers that are allowed; None for a knob that is no number.
        choices: Values that are allowed; empty where any is, of the range.
    """

    name: str
    value: Any
    default: str
    range: Range | None = None
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name for people."""
        return TEXTS[self.name][0]

    @property
    def info(self) -> str:
        """What it does, its range and its default."""
        limits = "" if self.range is None else f"; {self.range}"
        return f"{TEXTS[self.name][1]}{limits}; default {self.default}"

    def read(self, value: Any) -> Any:
        """Return a value of the page; None if it is the model's own.

        Raises:
            ArzooError: It is out of range.
        """
        if value is None or value == "" or value == self.value:
            return None
        if self.range is None:
            if isinstance(self.value, bool) != isinstance(value, bool) or (
                self.choices and value not in self.choices
            ):
                raise UnknownName(self.label.lower(), str(value), self.choices)
            return value
        if value not in self.range:
            raise ArzooError(f"{self.label} {value!r} must be {self.range}")
        return int(value) if self.range.integer else float(value)


def knobs_of(model: Generator) -> dict[str, Knob]:
    """Return the knobs of a model by their names, in the order of `TEXTS`."""
    found = {knob.name: knob for knob in (*_of_control(model), *_of_plan(model))}
    return {name: found[name] for name in TEXTS if name in found}


def _of_control(model: Generator) -> Iterator[Knob]:
    used = set(used_knobs(model, model.control))
    if not model.untrained.null:
        used |= {"guidance"}
    if model.control.greedy:  # which no option of the command switches off
        used -= {"greedy"}
    for name in used.intersection(TEXTS):
        value = getattr(model.control, name)
        own = name in ("solver", "head_steps") and not value
        text = "the head's own" if own else "off" if value in (None, False) else knob_text(value)
        plain = None if own or callable(value) else value
        choices = tuple(_solvers(model)) if name == "solver" else ()
        limits = Range(1, RANGES[name].high, integer=True) if name == "head_steps" else RANGES.get(name)
        yield Knob(name, plain, text, limits, choices)


def _solvers(model: Generator) -> Iterator[str]:
    """Solvers that the head of the first stage has."""
    settings = Settings(head_steps=100)
    for name in (*diffusion.SOLVERS, *flow.SOLVERS):
        try:
            model.heads[0].evaluations(replace(settings, solver=name))
        except ArzooError:
            continue
        yield name


def _of_plan(model: Generator) -> Iterator[Knob]:
    size = model.spec.layout.size
    plan = model.plan()
    if about(model.plan_name).option("steps") is not None and plan.stages == 1:
        yield Knob("steps", len(plan), str(len(plan)), Range(1, size, integer=True))
    if model.spec.prefix_ok:
        text = "where the model ends" if model.spec.ends else f"all {size}"
        yield Knob("tokens", None, text, Range(1, size, integer=True))


def with_knobs(model: Generator, knobs: Mapping[str, Any]) -> tuple[Generator, Control]:
    """Return the model with another number of steps, and its control with the knobs of a request.

    Raises:
        ArzooError: The plan does not allow this number of steps.
    """
    if "steps" in knobs:
        model = with_steps(model, knobs["steps"])
    names = {field.name for field in fields(Control)}
    return model, replace(model.control, **{name: knobs[name] for name in knobs if name in names})


def options_of(knobs: Mapping[str, Any]) -> list[str]:
    """Return the knobs of a request as options of `arzoo generate`."""
    words = list[str]()
    for name, value in knobs.items():
        option = f"--{OPTIONS.get(name, name.replace('_', '-'))}"
        words += [option] if value is True else [option, f"{value}".removesuffix(".0")]
    return words
