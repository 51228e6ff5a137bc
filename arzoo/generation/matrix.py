"""Which backbone families can work in which plans and with which heads, computed from what parts say of themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arzoo.base.console import table
from arzoo.base.errors import ArzooError, UnknownName

if TYPE_CHECKING:
    from arzoo.base.config import Config
    from arzoo.core.contracts import Backbone
    from arzoo.core.tokens import TokenSpec


@dataclass(frozen=True)
class Matrix:
    """What fits.

    Attributes:
        plans: Per backbone family and plan an empty text if they fit, else why not.
        heads: Per backbone family and head family the plans in which they fit.
    """

    plans: dict[str, dict[str, str]]
    heads: dict[str, dict[str, list[str]]]


def matrix(pattern: str) -> Matrix:
    """What fits the backbones of some names.

    A family is represented by one of its presets, built without memory for weights, over tokenizers of the layout it
    was made for: of codes, of several codebooks, of vectors (KL tokenizers), whichever it can be built for.

    Args:
        pattern: Shell pattern of backbone names.

    Raises:
        UnknownName: No backbone has such a name.
    """
    from arzoo.base import registry

    families: dict[str, str] = {}
    names = registry.names("backbone", pattern)
    if not names:
        raise UnknownName("backbone", pattern, registry.names("backbone"), "A pattern may have * and ?.")
    for name in names:
        families.setdefault(name.rpartition("_")[0] or name, name)
    plans, heads, found = registry.names("plan"), registry.names("head"), Matrix({}, {})
    heads = [head for head in heads if head.rpartition("_")[0] not in heads]  # other sizes fit alike
    for family, name in families.items():
        variants = _variants(registry.lookup("backbone", name)())
        reasons = {plan: [_why_not(config, plan, heads) for config in variants] for plan in plans}
        found.plans[family] = {
            plan: min((text for told in reasons[plan] for text in told.values()), key=len) for plan in plans
        }
        found.heads[family] = {
            head: [plan for plan in plans if any(not told[head] for told in reasons[plan])] for head in heads
        }
    _built.cache_clear()
    return found


def as_text(plans: dict[str, dict[str, str]], heads: dict[str, dict[str, list[str]]]) -> str:
    """Tables of yes and no; the reasons below them when there is one family only."""
    parts = [
        _yes({family: {plan: not reason for plan, reason in row.items()} for family, row in plans.items()}),
        _yes({family: {head: bool(fits) for head, fits in row.items()} for family, row in heads.items()}),
    ]
    if len(plans) > 1:
        return "\n\n".join([*parts, "Reasons, one family at a time: arzoo models 'FAMILY*' --matrix"])
    (row,), (fits,) = plans.values(), heads.values()
    reasons = [f"{plan}: {reason}" for plan, reason in row.items() if reason]
    where = [f"head {head}: {', '.join(names)}" for head, names in fits.items() if names]
    return "\n".join([*parts, "", *where, "", *reasons])


def _yes(rows: dict[str, dict[str, bool]]) -> str:
    columns = list(next(iter(rows.values())))
    return table(
        [[family, *("yes" if row[c] else "-" for c in columns)] for family, row in rows.items()],
        ["", *columns],
    )


def _variants(config: Config) -> list[Config]:
    """The settings of a backbone for each kind of tokens it can be built for."""
    has = {name for name in ("vocab", "channels", "codebooks") if hasattr(config, name)}
    if not {"vocab", "channels"} <= has:
        return [config]
    codes = config.replace(vocab=config.vocab or 1024, channels=0)  # type: ignore[attr-defined]
    several = [codes.replace(codebooks=4)] if "codebooks" in has else []
    return [codes, *several, config.replace(vocab=0, channels=16)]


def _why_not(config: Config, plan_name: str, heads: list[str]) -> dict[str, str]:
    """What keeps a backbone, a plan and each of some heads from working together; empty if nothing does."""
    from arzoo.base import registry
    from arzoo.core.layout import Pyramid
    from arzoo.generation import fit
    from arzoo.samplers.plans.samples import for_backbone

    backbone = _built(config)
    spec = _spec(backbone)
    try:
        plan = for_backbone(plan_name, spec.layout, backbone.extras, backbone.readouts)
    except ArzooError as error:
        return dict.fromkeys(heads, str(error))
    levels = tuple(grid.h for grid in plan.layout.levels) if isinstance(plan.layout, Pyramid) else ()
    if levels and hasattr(config, "levels"):
        backbone = _built(config.replace(levels=levels))
    sizes = {"vocab": spec.vocab, "channels": spec.channels, "axes": backbone.axes, "levels": levels}
    sizes["grid"] = getattr(config, "grid", (1, 16, 16))
    reasons = {}
    for head in heads:
        own = registry.lookup("head", head)()
        fitting = {
            key: size for key, size in sizes.items() if hasattr(own, key) and (size or key == "levels")
        }
        misfits = fit.check(spec, backbone, plan, [_built(own.replace(**fitting))] * plan.stages)
        reasons[head] = " ".join(map(str, misfits))
    return reasons


@functools.cache
def _built(config: Config) -> Any:
    """A network without memory for weights."""
    import torch

    with torch.device("meta"):
        return config.build()


def _spec(backbone: Backbone) -> TokenSpec:
    """A tokenizer's contract that the backbone was made for."""
    from arzoo.core.layout import Grid, Ordered
    from arzoo.core.tokens import TokenSpec

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
