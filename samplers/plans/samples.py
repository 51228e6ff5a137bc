"""Plans for given samples, with checked options and random orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.draws import Draws
from arzoo.core.layout import Layout
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import about

ORDER = -1
"""Step of the draws of random orders, before the first step of a plan."""


def for_samples(
    name: str, layout: Layout, seeds: Sequence[int], given: Tensor | None = None, **options: Any
) -> Plan:
    """Build a registered plan for samples.

    An order that the options do not give is random, one per sample and from its seed alone, so that a sample does not
    depend on its batch.

    Args:
        name: A registered plan.
        layout: Positions.
        seeds: One per sample.
        given: (B, N) bool, positions with a value already, for plans that schedule the others.
        **options: Arguments of the plan; an order may be a list of positions.

    Raises:
        UnknownName: There is no such plan, or it has no such option.
        ArzooError: An option has the wrong type or is out of range.
    """
    description = about(name)
    description.require(layout)
    for key, value in options.items():
        option = description.option(key)
        if option is None:
            if not description.options:
                raise ArzooError(f"plan {name!r} has no options, got {key}={value}. Leave it out.")
            raise UnknownName(f"argument of plan {name!r}", key, [o.name for o in description.options])
        if key != "orders":
            options[key] = checked(value, option.type, f"{key} of plan {name}")
    if isinstance(orders := options.get("orders"), list):
        levels = description.orders == "levels"
        options["orders"] = [torch.tensor(order) for order in orders] if levels else torch.tensor(orders)
    if description.orders != "none" and "orders" not in options:
        draws = Draws(seeds, ORDER)
        if description.orders == "levels":
            assert description.canvas is not None
            ordered = description.canvas(layout, options.get("levels", ()))
            options["orders"] = [draws.permutation(grid.size) for grid in ordered.levels]
        else:
            options["orders"] = draws.permutation(layout.size)
    if description.given and given is not None:
        options["given"] = given
    plan: Plan = registry.create("plan", name, layout=layout, **options)
    return plan


def for_backbone(name: str, layout: Layout, extras: int, readouts: frozenset[str]) -> Plan:
    """Build a registered plan for one sample, with options that suit a backbone.

    Args:
        name: A registered plan.
        layout: Positions.
        extras: Number of learned extra inputs of the backbone.
        readouts: Readouts that the backbone supports.

    Raises:
        UnknownName: There is no such plan.
        ArzooError: The plan does not support the layout.
    """
    return for_samples(name, layout, (0,), **about(name).trial_options(layout, extras, readouts))
