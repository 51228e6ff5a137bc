"""Methods of `arzoo search`: an algorithm from its name and the options that set its fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from arzoo.base import registry
from arzoo.base.errors import UsageError, nearest
from arzoo.base.parser import assignments, typed
from arzoo.cli.knobs import misuse
from arzoo.samplers.search import lengths
from arzoo.samplers.search.algorithm import Search as Algorithm

if TYPE_CHECKING:
    from arzoo.cli.search import Search

USUAL = "best_of_n"
"""The method that bought most for the pictures it decodes, on ordered tokens and on a grid (docs/search.md)."""
OPTIONS = ("width", "candidates", "samples", "batch", "lengths", "ahead", "results")
"""Options that set the field of that name; `--set` sets any."""


def algorithm(command: Search, name: str, steps: int) -> Algorithm:
    """Return the algorithm that a command asks for.

    Args:
        command: The command.
        name: Name of the method.
        steps: Steps of the plan.

    Raises:
        UsageError: The method has no such option, or a value is out of range.
    """
    chosen = {option: getattr(command, option) for option in OPTIONS}
    settings = {option: value for option, value in chosen.items() if value is not None}
    hints = registry.arguments("search_method", name)
    for option in settings:
        if option not in hints:
            raise UsageError(f"--{option} is not for method {name}: {_takers(option)}")
    for key, text in assignments(command.set, "--set", "results=2").items():
        if key not in hints:
            raise UsageError(
                f"--set {key}={text}: method {name} has no {key!r}.{nearest(key, hints)} It has: {', '.join(hints)}."
            )
        if key in settings:
            raise UsageError(f"{key} is given as --{key} and in --set: give it once")
        settings[key] = text
    with misuse():
        for key, value in settings.items():
            if key == "lengths":
                settings[key] = lengths_of(value, steps)
            elif isinstance(value, str):
                settings[key] = typed(value, hints[key], f"--set {key}")
        return registry.create("search_method", name, **settings)


def _takers(option: str) -> str:
    """The methods that have an option."""
    methods = registry.names("search_method")
    having = [name for name in methods if option in registry.arguments("search_method", name)]
    return f"it is for {', '.join(having)}" if having else "no method has it"


def lengths_of(text: str, steps: int) -> tuple[int, ...]:
    """Parse after how many steps candidates are compared: "1,2,4", "geometric:1.5", "linear:8" or "fixed".

    Raises:
        UsageError: The text is none of these.
        ArzooError: The lengths are not those of a plan of so many steps.
    """
    if text == "fixed":
        return lengths.fixed(steps)
    if base := re.fullmatch(r"geometric(?::(\d+(?:\.\d+)?))?", text, re.ASCII):
        return lengths.geometric(steps, float(base[1] or 2))
    if size := re.fullmatch(r"linear:(\d{1,9})", text, re.ASCII):
        return lengths.linear(steps, int(size[1]))
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text, re.ASCII):
        raise UsageError(
            f"--lengths {text!r} must be rising numbers of steps such as 1,2,4, or geometric, geometric:1.5, linear:8 "
            "or fixed (every step)"
        )
    return lengths.require_lengths([int(part) for part in text.split(",")], steps)
