"""Plans for some samples: options checked, random orders drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.draws import Draws
from arzoo.core.layout import Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import about

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
    described = about(name)
    described.require(layout)
    for key, value in options.items():
        option = described.option(key)
        if option is None:
            if not described.options:
                raise ArzooError(f"plan {name!r} has no options, got {key}={value}. Leave it out.")
            raise UnknownName(f"argument of plan {name!r}", key, [o.name for o in described.options])
        if key != "orders":
            options[key] = checked(value, option.type, f"{key} of plan {name}")
    if isinstance(orders := options.get("orders"), list):
        levels = described.orders == "levels"
        options["orders"] = [torch.tensor(order) for order in orders] if levels else torch.tensor(orders)
    if described.orders != "none" and "orders" not in options:
        draws = Draws(seeds, ORDER)
        if described.orders == "levels":
            grids = layout.levels if isinstance(layout, Pyramid) else (layout,)
            options["orders"] = [draws.permutation(grid.size) for grid in grids]
        else:
            options["orders"] = draws.permutation(layout.size)
    if described.given and given is not None:
        options["given"] = given
    plan: Plan = registry.create("plan", name, layout=layout, **options)
    return plan


def for_backbone(name: str, layout: Layout, extras: int, readouts: frozenset[str]) -> Plan:
    """A registered plan for one sample, with options that suit a backbone.

    Args:
        name: A registered plan.
        layout: Positions.
        extras: Number of extra learned inputs of the backbone.
        readouts: Readouts that it understands.

    Raises:
        UnknownName: There is no such plan.
        ArzooError: It cannot order the layout.
    """
    return for_samples(name, layout, (0,), **about(name).trial_options(layout, extras, readouts))
