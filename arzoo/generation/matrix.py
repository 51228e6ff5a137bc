"""Which backbone families fit which plans and heads, and which draw several steps in one call.

Everything is computed from the properties of the parts. `matrix.json` has what was computed for the shipped ones, so
that showing it takes no time; `scripts/dev/listings.py` writes it, and a test compares it with the parts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base import registry
from arzoo.base.console import table
from arzoo.base.errors import ArzooError, UnknownName

if TYPE_CHECKING:
    from arzoo.base.config import Config
    from arzoo.core.canvas import BackboneConfig
    from arzoo.core.tokens import TokenSpec


LISTING = Path(__file__).with_name("matrix.json")
"""Names of `plans` and `heads`, and `rows` by the backbone that represents its family."""

ByHead = dict[str, tuple[str, str]]
"""Per head, why it does not fit, and why one call cannot draw several steps."""


@dataclass(frozen=True)
class Matrix:
    """Which parts fit.

    Attributes:
        plans: Per backbone family and plan, an empty text if they fit, else the reason.
        heads: Per backbone family and head family, the plans in which they fit.
        ordered: As `plans`, over tokens without a grid, such as those of FlexTok, KARL and TiTok.
        ahead: Per backbone family and plan that fit, an empty text if one call can draw several steps (`generate
            --speculate`), else the reason.
    """

    plans: dict[str, dict[str, str]]
    heads: dict[str, dict[str, list[str]]]
    ordered: dict[str, dict[str, str]]
    ahead: dict[str, dict[str, str]]


def matrix(pattern: str) -> Matrix:
    """Return which plans and heads fit the backbones whose names match a pattern.

    One preset represents each family. What fits the shipped ones is stored in `LISTING`; others, and all of them where
    other distributions add plans or heads, are computed.

    Args:
        pattern: Shell pattern of backbone names.

    Raises:
        UnknownName: No backbone has such a name.
    """
    names = list(registry.summaries("backbone", pattern))
    if not names:
        raise UnknownName("backbone", pattern, registry.summaries("backbone"), "A pattern may have * and ?.")
    plans, heads = list(registry.summaries("plan")), list(registry.summaries("head"))
    listing = json.loads(LISTING.read_text(encoding="utf-8"))
    rows = listing["rows"] if (listing["plans"], listing["heads"]) == (plans, heads) else {}
    result = Matrix({}, {}, {}, {})
    for family, name in representatives(names).items():
        row = rows.get(name) or computed_row(name, plans, heads)
        for table_name, cells in row.items():
            getattr(result, table_name)[family] = cells
    _built.cache_clear()
    return result


def representatives(names: Iterable[str]) -> dict[str, str]:
    """Return by family the first of its backbones' names."""
    families: dict[str, str] = {}
    for name in names:
        families.setdefault(name.rpartition("_")[0] or name, name)
    return families


def computed_row(name: str, plans: list[str], heads: list[str]) -> dict[str, Any]:
    """Compute the row of a backbone in each table of a `Matrix`, by the table's name.

    It is built without memory for weights, for tokenizers of its own layout: of codes, of several codebooks, and of
    vectors, as far as it supports them.

    Args:
        name: A registered backbone.
        plans: Names of the plans.
        heads: Names of the heads.
    """
    heads = [head for head in heads if head.rpartition("_")[0] not in heads]  # all sizes of a head fit alike
    variants = _variants(registry.lookup("backbone", name)())
    grid, line = (
        {plan: [_why_not(config, plan, heads, ordered) for config in variants] for plan in plans}
        for ordered in (False, True)
    )
    misfits = {plan: _misfit(grid[plan]) for plan in plans}
    return {
        "plans": misfits,
        "heads": {
            head: [plan for plan in plans if any(not by_head[head][0] for by_head in grid[plan])]
            for head in heads
        },
        "ordered": {plan: _misfit(line[plan]) for plan in plans},
        "ahead": {plan: _not_ahead(grid[plan]) for plan, misfit in misfits.items() if not misfit},
    }


def as_text(
    plans: dict[str, dict[str, str]],
    heads: dict[str, dict[str, list[str]]],
    ordered: dict[str, dict[str, str]],
    ahead: dict[str, dict[str, str]],
) -> str:
    """Format tables of yes and no; for a single family, the reasons follow."""
    parts = [
        _yes({family: {plan: not reason for plan, reason in row.items()} for family, row in plans.items()}),
        "over ordered tokens (FlexTok, KARL, TiTok)\n"
        + _yes(
            {family: {plan: not reason for plan, reason in row.items()} for family, row in ordered.items()}
        ),
        "several steps in one call (generate --speculate)\n"
        + _yes(
            {family: {plan: ahead[family].get(plan) == "" for plan in row} for family, row in plans.items()}
        ),
        _yes({family: {head: bool(fits) for head, fits in row.items()} for family, row in heads.items()}),
    ]
    if len(plans) > 1:
        return "\n\n".join([*parts, "Reasons, one family at a time: arzoo models 'FAMILY*' --matrix"])
    (row,), (fits,), (steps,) = plans.values(), heads.values(), ahead.values()
    reasons = [f"{plan}: {reason}" for plan, reason in row.items() if reason]
    reasons += [f"{plan}, several steps in one call: {reason}" for plan, reason in steps.items() if reason]
    where = [f"head {head}: {', '.join(names)}" for head, names in fits.items() if names]
    return "\n".join([*parts, "", *where, "", *reasons])


def _yes(rows: dict[str, dict[str, bool]]) -> str:
    columns = list(next(iter(rows.values())))
    return table(
        [[family, *("yes" if row[c] else "-" for c in columns)] for family, row in rows.items()],
        ["", *columns],
    )


def _misfit(answers: list[ByHead]) -> str:
    """Shortest of the reasons by head; empty if a head fits."""
    return min((misfit for by_head in answers for misfit, _ in by_head.values()), key=len)


def _not_ahead(answers: list[ByHead]) -> str:
    """Shortest of the reasons of heads that fit; empty if one call can draw several steps with one of them."""
    return min((reason for by_head in answers for misfit, reason in by_head.values() if not misfit), key=len)


def _variants(config: BackboneConfig) -> list[BackboneConfig]:
    """Return the settings of a backbone for each kind of token it supports."""
    if not config.has("vocab", "channels"):
        return [config]
    codes = config.replace(vocab=config.vocab or 1024, channels=0)
    several = [codes.replace(codebooks=4)] if config.has("codebooks") else []
    return [codes, *several, config.replace(vocab=0, channels=16)]


def _why_not(config: BackboneConfig, plan_name: str, heads: list[str], ordered: bool) -> ByHead:
    """Return by head why it does not fit a backbone and a plan, over a grid or ordered tokens, and no several steps.

    The first text is empty if it fits; the second one if one call can draw several steps besides.
    """
    from arzoo.generation import fit
    from arzoo.generation.build import canvas_sizes, stage_sizes
    from arzoo.samplers.plans.samples import for_backbone
    from arzoo.samplers.speculative.base import cannot_draw_ahead

    backbone, spec = _built(config), _spec(config, ordered)
    try:
        plan = for_backbone(plan_name, spec.layout, backbone.extras, backbone.readouts)
    except ArzooError as error:
        return dict.fromkeys(heads, (str(error), ""))
    sizes = canvas_sizes(spec, plan)
    if sizes["levels"]:
        backbone = _built(config.fitted({"levels": sizes["levels"]}))
    answers = {}
    for head in heads:
        config_of = registry.lookup("head", head)()
        nets = [_built(config_of.fitted(stage_sizes(spec, plan, stage))) for stage in range(plan.stages)]
        misfits = fit.check(spec, backbone, plan, nets)
        answers[head] = " ".join(map(str, misfits)), cannot_draw_ahead(backbone, plan, nets)
    return answers


@functools.cache
def _built(config: Config) -> Any:
    """Build a network on the meta device, without memory for weights."""
    import torch

    with torch.device("meta"):
        return config.build()


def _spec(config: BackboneConfig, ordered: bool) -> TokenSpec:
    """Return the contract of a tokenizer that suits a backbone, of as many ordered tokens if asked for."""
    import torch

    from arzoo.core.layout import Ordered, Pyramid
    from arzoo.core.tokens import TokenSpec
    from arzoo.tokenizers.quantizers.multi_scale import LevelSums, MultiScaleQuantizer

    layout = config.layout or Ordered(64)
    if ordered:
        layout = Ordered(layout.size)
    if config.vocab:
        canvas = None
        if config.code_channels and isinstance(layout, Pyramid):
            with torch.device("meta"):
                canvas = LevelSums(MultiScaleQuantizer(config.vocab, config.code_channels, layout))
        return TokenSpec(layout, vocab=config.vocab, codebooks=config.codebooks, canvas=canvas)
    return TokenSpec(layout, channels=config.channels or 16)
