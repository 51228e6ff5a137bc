"""Which backbone families can work in which plans and with which heads, computed from what parts say of themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arzoo.base.console import table
from arzoo.base.errors import ArzooError, UnknownName

if TYPE_CHECKING:
    from arzoo.base.config import Config
    from arzoo.core.canvas import BackboneConfig
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
    plans, heads, result = registry.names("plan"), registry.names("head"), Matrix({}, {})
    heads = [head for head in heads if head.rpartition("_")[0] not in heads]  # other sizes fit alike
    for family, name in families.items():
        variants = _variants(registry.lookup("backbone", name)())
        reasons = {plan: [_why_not(config, plan, heads) for config in variants] for plan in plans}
        result.plans[family] = {
            plan: min((text for by_head in reasons[plan] for text in by_head.values()), key=len)
            for plan in plans
        }
        result.heads[family] = {
            head: [plan for plan in plans if any(not by_head[head] for by_head in reasons[plan])]
            for head in heads
        }
    _built.cache_clear()
    return result


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


def _variants(config: BackboneConfig) -> list[BackboneConfig]:
    """The settings of a backbone for each kind of tokens it can be built for."""
    if not config.has("vocab", "channels"):
        return [config]
    codes = config.replace(vocab=config.vocab or 1024, channels=0)
    several = [codes.replace(codebooks=4)] if config.has("codebooks") else []
    return [codes, *several, config.replace(vocab=0, channels=16)]


def _why_not(config: BackboneConfig, plan_name: str, heads: list[str]) -> dict[str, str]:
    """What keeps a backbone, a plan and each of some heads from working together; empty if nothing does."""
    from arzoo.base import registry
    from arzoo.generation import fit
    from arzoo.generation.build import canvas_sizes
    from arzoo.samplers.plans.samples import for_backbone

    backbone, spec = _built(config), _spec(config)
    try:
        plan = for_backbone(plan_name, spec.layout, backbone.extras, backbone.readouts)
    except ArzooError as error:
        return dict.fromkeys(heads, str(error))
    sizes = canvas_sizes(spec, plan)
    if sizes["levels"]:
        backbone = _built(config.fitted({"levels": sizes["levels"]}))
    reasons = {}
    for head in heads:
        own = registry.lookup("head", head)()
        misfits = fit.check(spec, backbone, plan, [_built(own.fitted(sizes))] * plan.stages)
        reasons[head] = " ".join(map(str, misfits))
    return reasons


@functools.cache
def _built(config: Config) -> Any:
    """A network without memory for weights."""
    import torch

    with torch.device("meta"):
        return config.build()


def _spec(config: BackboneConfig) -> TokenSpec:
    """A tokenizer's contract that a backbone was made for."""
    from arzoo.core.layout import Ordered
    from arzoo.core.tokens import TokenSpec

    layout = config.layout or Ordered(64)
    if config.vocab:
        return TokenSpec(layout, vocab=config.vocab, codebooks=config.codebooks)
    return TokenSpec(layout, channels=config.channels or 16)
