"""Compatibility: whether tokenizer, backbone, plan and heads fit; if not, why, and what would.

Everything is computed from the properties of the parts; there is no table of known combinations.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core import pyramid
from arzoo.core.layout import Grid, Layout, Ordered
from arzoo.core.tokens import TokenSpec
from arzoo.samplers.loop import must_be_given
from arzoo.samplers.plans.about import named, plans
from arzoo.samplers.plans.samples import for_backbone
from arzoo.samplers.stopping import fills_in_order

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.core.canvas import CanvasConfig
    from arzoo.core.contracts import Backbone, Head
    from arzoo.core.plan import Plan


@dataclass(frozen=True)
class Misfit:
    """A reason why parts do not fit, and the way out.

    Attributes:
        reason: What is wrong; it names both sides.
        remedy: What would fit.
    """

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}. {self.remedy}"


def check(spec: TokenSpec, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> list[Misfit]:
    """Return every reason why the parts cannot work together, an empty list if they can.

    Args:
        spec: The tokenizer's contract.
        backbone: The network.
        plan: The order.
        heads: One per stage.
    """
    misfits = [*_kind(spec, backbone)]
    if not spec.discrete and pyramid.covers(plan.layout, spec.layout):
        spec = replace(spec, layout=plan.layout)  # coarser levels are means of the tokenizer's vectors
    misfits += [*_shapes(spec, backbone, plan), *_readout(backbone, plan), *_stages(backbone, plan, heads)]
    misfits += _latents(spec, backbone)
    for stage, head in enumerate(heads):
        level = plan.stage_layout(min(stage, plan.stages - 1))
        of_stage = "full" in head.needs or head.config.layout == level
        misfits += _head(replace(spec, layout=level) if of_stage else spec, backbone, plan, head)
    return misfits


def require_fit(spec: TokenSpec, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
    """Raise when parts do not fit.

    Raises:
        ArzooError: The parts do not fit; the message lists all reasons and remedies.
    """
    misfits = check(spec, backbone, plan, heads)
    if misfits:
        raise ArzooError(" ".join(str(misfit) for misfit in misfits) + " See `arzoo models --matrix`.")


def notes(backbone: Backbone, plan: Plan, given: Tensor | None = None) -> list[str]:
    """Return remarks about what works, but not as one might expect.

    Args:
        backbone: The network.
        plan: The order.
        given: (B, N) bool, positions of the plan that have a value already; None where any may be given.
    """
    remarks = [missing] if (missing := must_be_given(plan, given)) else []
    if not backbone.bidirectional and len(plan) > 1 and (given is None or _given_later(plan, given)):
        remarks.append(
            "given tokens that come later in the order are kept but not seen while drawing; for inpainting that looks "
            "around, use a masked model or a plan that ranks the given part first"
        )
    return remarks


def _given_later(plan: Plan, given: Tensor) -> bool:
    """Return whether a given position comes after one that is to be drawn."""
    rank = plan.slot_rank[:, : plan.layout.size]
    first = rank.masked_fill(given, len(plan)).amin(1, keepdim=True)
    return bool((given & (rank > first)).any())


def _stages(backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> list[Misfit]:
    """A plan has a head per stage, and a backbone may be made for a number of stages."""
    misfits, count = [], f"plan {plan.name!r} has {plan.stages} stage{'s' * (plan.stages > 1)}"
    if backbone.stages and plan.stages != backbone.stages:
        misfits.append(
            Misfit(
                f"{count}, backbone {called(backbone)} draws {backbone.stages}",
                "Use plan pivots, or a backbone that draws in one stage, such as mar_tiny.",
            )
        )
    if len(heads) < plan.stages:
        misfits.append(Misfit(f"{count}, {len(heads)} heads are given", "Give one head per stage."))
    return misfits


def _kind(spec: TokenSpec, backbone: Backbone) -> list[Misfit]:
    """A backbone for codes only cannot take vectors, and the other way round."""
    config, name = backbone.config, f"backbone {called(backbone)}"
    if spec.discrete and config.channels and not config.vocab:
        remedy = "Use a backbone for codes, such as nar_tiny, or a tokenizer of vectors, such as kl_8_small."
        return [Misfit(f"the tokenizer's tokens are codes, {name} reads vectors", remedy)]
    if not spec.discrete and config.vocab and not config.channels:
        remedy = "Use a backbone for vectors, such as mar_tiny, or a tokenizer of codes."
        return [Misfit(f"the tokenizer's tokens are vectors, {name} reads codes", remedy)]
    return []


def _shapes(spec: TokenSpec, backbone: Backbone, plan: Plan) -> list[Misfit]:
    misfits, name = [], f"backbone {called(backbone)}"
    of_backbone = backbone.axes, backbone.extras, backbone.readouts
    if plan.layout != spec.layout:
        misfits.append(
            Misfit(
                f"plan {plan.name!r} orders {plan.layout}, the tokenizer has {spec.layout}",
                "Make the plan for the tokenizer's layout.",
            )
        )
    if plan.readout == "shifted" and plan.axes != backbone.axes:
        misfits.append(
            Misfit(
                f"plan {plan.name!r} reads {_axes(plan.axes)}, {name} has {backbone.axes}",
                f"Use a backbone with axes={plan.axes}, or a plan with {backbone.axes} "
                f"({_with_axes(plan.layout, *of_backbone)}).",
            )
        )
    if plan.extras > backbone.extras:
        misfits.append(
            Misfit(
                f"plan {plan.name!r} feeds {plan.extras} learned transition inputs, {name} has {backbone.extras}",
                f"Use a backbone with extras={plan.extras}.",
            )
        )
    if plan.copies is not None and not backbone.copies:
        misfits.append(
            Misfit(
                f"plan {plan.name!r} feeds copies of tokens at other positions and takes them back, {name} cannot"
                + (", as it keeps a summary of what it has read" if backbone.recurrent else ""),
                "Use the plan it was trained with, or a network of the family of LlamaGen, such as raster_tiny.",
            )
        )
    if spec.ends and not (plan.readout == "shifted" and fills_in_order(plan)):
        misfits.append(
            Misfit(
                f"the number of tokens follows the picture, and plan {plan.name!r} does not draw them in their order",
                "Use plan ordered, or a tokenizer with the same number of tokens for every picture.",
            )
        )
    config = backbone.config
    if spec.discrete and config.vocab and config.codebooks != spec.codebooks:
        misfits.append(
            Misfit(
                f"the tokenizer has {spec.codebooks} codes per position, {name} reads {config.codebooks}",
                f"Use codebooks={spec.codebooks} where the backbone can, or a tokenizer with {config.codebooks}.",
            )
        )
    return [*misfits, *_canvas(spec, name, config)]


def _canvas(spec: TokenSpec, name: str, config: CanvasConfig) -> list[Misfit]:
    """Compare codes, layout and channels with those of a backbone or head, where it has any."""
    misfits, layout = [], config.layout
    if spec.discrete and config.vocab not in (0, spec.vocab):
        misfits.append(
            Misfit(
                f"the tokenizer has {spec.vocab} codes, {name} was made for {config.vocab}",
                f"Use vocab={spec.vocab} for {name}.",
            )
        )
    if isinstance(spec.layout, Ordered) and isinstance(layout, Grid):
        layout = Ordered(layout.size)  # a sequence of the same length, without coordinates
    if layout is not None and layout != spec.layout:
        misfits.append(
            Misfit(
                f"the tokenizer's tokens are {spec.layout}, {name} was made for {layout}",
                f"Use a {type(spec.layout).__name__.lower()} layout of that size for {name}.",
            )
        )
    if not spec.discrete and config.channels not in (0, spec.channels):
        misfits.append(
            Misfit(
                f"the tokenizer's vectors have {spec.channels} channels, {name} was made for {config.channels}",
                f"Use channels={spec.channels}.",
            )
        )
    return misfits


def _axes(count: int) -> str:
    return f"{count} ax{'is' if count == 1 else 'es'}"


@functools.cache  # the matrix asks it hundreds of times
def _with_axes(layout: Layout, axes: int, extras: int, readouts: frozenset[str]) -> str:
    """Return the names of the plans over a layout that read as many axes as a backbone has."""
    fitting = []
    for about in plans():
        try:
            plan = for_backbone(about.name, layout, extras, readouts)
        except ArzooError:
            continue
        if plan.axes == axes and plan.readout in readouts and plan.extras <= extras:
            fitting.append(about.name)
    return ", ".join(fitting) or "none is registered"


def _readout(backbone: Backbone, plan: Plan) -> list[Misfit]:
    name = f"backbone {called(backbone)}"
    if plan.readout in backbone.readouts:
        return _undecided(backbone, plan)
    meanings = {
        "shifted": "predicts a position from earlier tokens",
        "inplace": "re-reads the canvas with a query at the target",
        "draft": "computes its inputs from coarser levels",
    }
    # A recurrent network is no masked one with another mask: it never sees what comes later.
    once = (
        ": it is recurrent, and reads every token once, in the order of the plan"
        if backbone.recurrent
        else ""
    )
    readouts = sorted(backbone.readouts)
    listed = ", ".join(readouts)
    return [
        Misfit(
            f"plan {plan.name!r} {meanings[plan.readout]} (readout {plan.readout!r}), {name} reads {listed}{once}",
            f"Use a plan with readout {listed}: {named(plans(), readouts)}.",
        )
    ]


def _latents(spec: TokenSpec, backbone: Backbone) -> list[Misfit]:
    """A backbone that computes inputs in the latent space of a tokenizer needs one whose levels add up."""
    if not backbone.reads_canvas:
        return []
    name = f"backbone {called(backbone)}"
    if spec.canvas is None:
        return [
            Misfit(
                f"{name} computes its inputs from sums of coarser levels, and the tokenizer's tokens are no pyramid of "
                "codes whose vectors add up",
                "Use a multi-scale VQ tokenizer, such as msvq_8_small.",
            )
        ]
    width = backbone.config.code_channels
    if width == spec.canvas.channels:
        return []
    return [
        Misfit(
            f"the tokenizer's codes are vectors of {spec.canvas.channels} channels, {name} was made for {width}",
            f"Use code_channels={spec.canvas.channels}.",
        )
    ]


def _undecided(backbone: Backbone, plan: Plan) -> list[Misfit]:
    """Positions that are chosen while drawing need a backbone that reads all of them again in every step."""
    if not plan.confident or backbone.bidirectional:
        return []
    name = f"backbone {called(backbone)}"
    return [
        Misfit(
            f"plan {plan.name!r} chooses the positions of a step after it has drawn all of them, {name} feeds tokens "
            "in an order that is known before",
            "Use a masked model, such as mar_tiny, or a plan whose order is fixed.",
        )
    ]


def _head(spec: TokenSpec, backbone: Backbone, plan: Plan, head: Head) -> list[Misfit]:
    misfits, name = [], f"head {called(head)}"
    if head.discrete != spec.discrete:
        kinds = {True: "codes", False: "vectors"}
        misfits.append(
            Misfit(
                f"{name} draws {kinds[head.discrete]}, the tokenizer's tokens are {kinds[spec.discrete]}",
                "Use head categorical for codes, a diffusion or flow head for vectors.",
            )
        )
    missing = head.needs - backbone.gives
    if missing:
        gives = ", ".join(sorted(backbone.gives))
        misfits.append(
            Misfit(
                f"{name} works on {', '.join(sorted(missing))}, backbone {called(backbone)} gives {gives}",
                f"Use a head that needs {gives}.",
            )
        )
    if plan.confident and not head.scored:
        misfits.append(
            Misfit(
                f"plan {plan.name!r} commits the tokens that the head is surest of, {name} does not say how sure "
                "it is of a token",
                "Use head categorical, and a tokenizer of single codes.",
            )
        )
    misfits += _canvas(spec, name, head.config)
    codebooks = head.config.codebooks
    if spec.discrete and codebooks != spec.codebooks:
        misfits.append(
            Misfit(
                f"{name} draws {codebooks} codes per position, the tokenizer has {spec.codebooks}",
                "Use head depth for several codebooks, categorical for one.",
            )
        )
    elif spec.discrete and codebooks == 1 and head.config.has("codebooks"):
        misfits.append(
            Misfit(
                f"{name} draws several codes per position, one after the other, the tokenizer has 1",
                "Use head categorical.",
            )
        )
    if plan.readout == "shifted" and head.config.axes not in (None, plan.axes):
        misfits.append(
            Misfit(
                f"plan {plan.name!r} reads {_axes(plan.axes)}, {name} averages {head.config.axes}",
                f"Use a head with axes={plan.axes}.",
            )
        )
    return misfits
