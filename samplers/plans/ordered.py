"""Plans of sequences without spatial meaning, coarse to fine."""

from __future__ import annotations

import torch

from arzoo.base.errors import UsageError
from arzoo.core.layout import Layout
from arzoo.core.plan import COND, Plan
from arzoo.samplers.plans.about import OWN, plan


@plan(paper=OWN, readouts=("shifted",))
def ordered(layout: Layout, group: int = 1) -> Plan:
    """A 1D sequence coarse to fine, `group` tokens per step; the features of the previous group predict the next one.

    The condition predicts the first token. group - 1 learned inputs, fed after the condition, predict the other tokens
    of the first group; from the condition alone they would all have the same distribution.
    """
    index = torch.arange(layout.size)
    if not 0 < group <= layout.size or layout.size % group:
        raise UsageError(f"plan 'ordered': group={group} must divide the {layout.size} positions")
    sources = torch.where(index < group, layout.size + index - 1, index - group)[:, None]
    sources[0] = COND
    before = torch.full((group - 1,), -1)
    return Plan(layout, index // group, "shifted", sources, before, name="ordered")
