"""Registered plans for the samples of a request: options are checked, open orders are drawn."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, get_type_hints

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.draws import Draws
from arzoo.core.layout import Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import FROM_CALLER, about

ORDER = -1
"""Step of the draws that decide a random order: before those of the first step."""


def for_samples(
    name: str, layout: Layout, seeds: Sequence[int], given: Tensor | None = None, **options: Any
) -> Plan:
    """A registered plan for some samples.

    An order that the options leave open is random, one a sample and drawn from its seed alone, so that a sample does
    not depend on its batch.

    Args:
        name: A registered plan.
        layout: Positions.
        seeds: One a sample.
        given: (B, N) bool, positions with a value already, for plans that schedule the others.
        **options: Arguments of the plan; an order may be a list of positions.

    Raises:
        UnknownName: There is no such plan, or it takes no such option.
        ArzooError: An option has the wrong type or is out of range.
    """
    function, says, settable = registry.lookup("plan", name), about(name), settings(name)
    takes, hints = inspect.signature(function).parameters, get_type_hints(function)
    for option, value in options.items():
        if option not in settable:
            if not settable:
                raise ArzooError(f"plan {name!r} has no options, got {option}={value}. Leave it out.")
            raise UnknownName(f"argument of plan {name!r}", option, settable)
        if option in hints and option not in FROM_CALLER:
            options[option] = checked(value, hints[option], f"{option} of plan {name}")
    if isinstance(options.get("orders"), list):
        options["orders"] = torch.tensor(options["orders"])
    if says.orders != "none" and "orders" not in options:
        draws = Draws(seeds, ORDER)
        levels = layout.levels if says.orders == "a level" and isinstance(layout, Pyramid) else ()
        orders = [draws.permutation(grid.size) for grid in levels]
        options["orders"] = orders or draws.permutation(layout.size)
    if "given" in takes and given is not None:
        options["given"] = given
    plan: Plan = registry.create("plan", name, layout=layout, **options)
    return plan


def settings(name: str) -> list[str]:
    """Arguments of a registered plan that may be set: its options, and its order."""
    takes = inspect.signature(registry.lookup("plan", name)).parameters
    return [key for key in takes if key not in ("layout", "given")]
