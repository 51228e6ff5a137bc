"""The plan `spiral`: from the center of a picture outwards."""

from __future__ import annotations

import torch

from arzoo.core.layout import Grid
from arzoo.core.plan import COND, Plan
from arzoo.samplers.plans.about import OWN, plan


@plan(paper=OWN, readouts=("shifted",))
def spiral(layout: Grid) -> Plan:
    """One token per step, from the center outwards, frame by frame."""
    frame, row, column = layout.coords().double().unbind(1)
    down, right = row - (layout.h - 1) / 2, column - (layout.w - 1) / 2
    ring, turn = torch.maximum(down.abs(), right.abs()), torch.atan2(down, right)
    order = torch.tensor(sorted(range(layout.size), key=lambda i: (frame[i], ring[i], turn[i])))
    sources = torch.full((layout.size, 1), COND)
    sources[order[1:], 0] = order[:-1]
    return Plan(layout, torch.argsort(order, stable=True), "shifted", sources, name="spiral")
