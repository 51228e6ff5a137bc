"""Which backbone families can work in which plans, computed from what the parts say of themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from arzoo.cli.output import table
from arzoo.errors import ArzooError

if TYPE_CHECKING:
    from arzoo.layout import Layout
    from arzoo.models.base import Backbone, Head
    from arzoo.plan import Plan
    from arzoo.tokens import TokenSpec

Matrix = dict[str, dict[str, str]]


def matrix(pattern: str) -> Matrix:
    """Per backbone family and plan an empty text if they fit, else why not.

    A family is represented by one of its presets, built without memory for weights, over a tokenizer of the layout it
    was made for and with the head that suits it best.

    Args:
        pattern: Shell pattern of backbone names.
    """
    import torch

    from arzoo import registry

    families: dict[str, str] = {}
    for name in registry.names("backbone", pattern):
        families.setdefault(name.rpartition("_")[0] or name, name)
    with torch.device("meta"):
        backbones = {family: registry.create("backbone", name) for family, name in families.items()}
    plans, found = registry.names("plan"), {}
    for family, backbone in backbones.items():
        heads = _heads(backbone)
        found[family] = {plan: _why_not(backbone, plan, heads) for plan in plans}
    return found


def as_text(found: Matrix) -> str:
    """A table of yes and no; the reasons below it when there is one family only."""
    if not found:
        return "no backbone has such a name"
    plans = list(next(iter(found.values())))
    rows = [[family, *("-" if row[plan] else "yes" for plan in plans)] for family, row in found.items()]
    text = table(rows, ["", *plans])
    if len(found) > 1:
        return f"{text}\n\nReasons, one family at a time: arzoo models 'FAMILY*' --matrix"
    (row,) = found.values()
    return "\n".join([text, "", *(f"{plan}: {reason}" for plan, reason in row.items() if reason)])


def _heads(backbone: Backbone) -> list[Head]:
    """Every registered head, in the sizes of the backbone."""
    import torch

    from arzoo import registry

    sizes, found = {"vocab": _spec(backbone).vocab, "axes": backbone.axes}, []
    for name in registry.names("head"):
        config = registry.lookup("head", name)()
        fitting = {key: size for key, size in sizes.items() if size and hasattr(config, key)}
        with torch.device("meta"):
            found.append(config.replace(**fitting).build())
    return found


def _why_not(backbone: Backbone, plan_name: str, heads: list[Head]) -> str:
    from arzoo import compat

    spec = _spec(backbone)
    try:
        plan = _plan(plan_name, spec.layout, backbone.extras)
    except ArzooError as error:
        return str(error)
    misfits = [compat.check(spec, backbone, plan, [head] * plan.stages) for head in heads]
    return " ".join(str(misfit) for misfit in min(misfits, key=len, default=[]))


def _spec(backbone: Backbone) -> TokenSpec:
    """A tokenizer's contract that the backbone was made for."""
    from arzoo.layout import Grid, Ordered
    from arzoo.tokens import TokenSpec

    config: Any = backbone.config
    layout = getattr(config, "layout", None)
    if layout is None:
        grid = getattr(config, "grid", None)
        layout = Ordered(getattr(config, "length", 64)) if grid is None else Grid(*grid)
    vocab, channels = getattr(config, "vocab", 0), getattr(config, "channels", 16)
    codebooks = getattr(config, "codebooks", 1)
    return (
        TokenSpec(layout, vocab=vocab, codebooks=codebooks) if vocab else TokenSpec(layout, channels=channels)
    )


def _plan(name: str, layout: Layout, extras: int) -> Plan:
    """A plan with arguments that suit the backbone's extra inputs, or plain ones."""
    import torch

    from arzoo import registry
    from arzoo.draws import Draws
    from arzoo.layout import Pyramid

    n = layout.size
    side = getattr(layout, "w", 1)
    levels = layout.levels if isinstance(layout, Pyramid) else ()
    arguments: dict[str, dict[str, Any]] = {
        "parallel": {"regions": math.isqrt(extras + 1) if extras else 2},
        "next_block": {"size": extras + 1 if extras else side, "hybrid": bool(extras)},
        "masked": {"orders": Draws([0]).permutation(n), "steps": min(8, n)},
        "cells": {"regions": 2},
        "subsamples": {"stride": 2},
        "custom": {"orders": torch.arange(n)},
        "pivots": {
            "orders": [Draws([0]).permutation(level.size) for level in levels],
            "steps": [min(4, level.size) for level in levels],
        },
    }
    plan: Plan = registry.create("plan", name, layout=layout, **arguments.get(name, {}))
    return plan
