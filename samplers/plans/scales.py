"""Plans over the levels of a pyramid, coarse to fine."""

from __future__ import annotations

from typing import Any, Literal

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.plan import Plan
from arzoo.samplers.plans.about import plan


def _supported_readout(layout: Layout, extras: int, readouts: frozenset[str]) -> dict[str, Any]:
    return {"readout": "inplace" if "inplace" in readouts else "draft"}


@plan(
    paper="Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction, 2024",
    section="3",
    readouts=("draft", "inplace"),
    trial=_supported_readout,
)
def scales(
    layout: Grid | Pyramid, readout: Literal["draft", "inplace"] = "draft", levels: tuple[int, ...] = ()
) -> Plan:
    """One level of a pyramid per step, coarse to fine (VAR; FlowAR).

    Args:
        layout: A pyramid, or a grid of vectors that becomes the finest level of one.
        readout: "inplace" for backbones that denoise the level itself (xAR's "next scale").
        levels: Sides of square levels over a grid; by default its side is halved down to 1.

    Raises:
        ArzooError: These levels do not form a pyramid over the layout.
    """
    if isinstance(layout, Grid):
        layout = pyramid.over(layout, levels)
    if levels and tuple(levels) != tuple(grid.h for grid in layout.levels):
        raise ArzooError(f"plan 'scales': levels {list(levels)} are not those of {layout}")
    return Plan(layout, layout.level(), readout, name="scales")
