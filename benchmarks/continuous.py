"""Seconds to sample the continuous tokens of one 256 x 256 picture at the papers' smallest sizes, with the bound.

xAR-B, MAR-B, FlowAR-S and Hi-MAR-B, batch 1 with guidance, random weights. Head steps are a number, or EARLY:LATE for
DiSA's linear annealing. Every row is a complete picture in a separate process; nothing is extrapolated. The head of xAR
calls the backbone, so the backbone column of xAR only contains the feeding of finished cells. The pivots of Hi-MAR take
32 steps with 100 head steps each; the given head steps are those of its 4 dense steps, of which 250 are published, and
`dense_seconds` are those of these steps. Its rows of 250 head steps take minutes.

    python benchmarks/continuous.py
    python benchmarks/continuous.py --model xar --head-steps 50 50:5 --threads 2
    python benchmarks/continuous.py --model mar --precision int8 --steps 16 --json
    python benchmarks/continuous.py --model himar --head-steps 250 50:5 25:5 --precision fp32 bf16 --threads 2
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from typing import Any

import torch
from common import PRECISIONS, bound, packed, products, seconds, table
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import TokenSpec
from arzoo.models.flowar.network import FlowARConfig
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.dit import DiTConfig
from arzoo.models.heads.flow import BackboneFlowConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.models.himar.network import HiMARConfig
from arzoo.models.mar.network import MARConfig
from arzoo.models.xar.network import XARConfig
from arzoo.samplers import schedules
from arzoo.samplers.loop import propose, start
from arzoo.samplers.plans.inplace import cells, masked
from arzoo.samplers.plans.pivots import pivots
from arzoo.samplers.plans.scales import scales

MODELS: dict[str, tuple[Any, ...]] = {
    "xar": (XARConfig(), BackboneFlowConfig()),
    "mar": (MARConfig(), DiffusionMLPConfig()),
    "flowar": (FlowARConfig(encoder_depth=6, decoder_depth=6), FlowNetConfig()),
    "himar": (HiMARConfig(), DiffusionMLPConfig(), DiTConfig()),
}
PIVOTS = 32, 100
"""Steps of Hi-MAR's pivots, and head steps of each."""
DENSE = 4


def setting(model: str, backbone: nn.Module, head_steps: str, steps: int) -> tuple[Plan, Control]:
    """Plan and knobs of the papers."""
    early, _, late = head_steps.partition(":")
    count = schedules.anneal(int(early), int(late)) if late else int(early)
    if model == "xar":
        return cells(backbone.layout, 2), Control(schedules.over_steps(1, 2.7), head_steps=count)
    if model == "flowar":
        guidance = schedules.over_steps(1, 4.2)
        return scales(backbone.layout), Control(guidance, interval=(0, 0.9), head_steps=count)
    if model == "himar":
        orders = [Draws([0]).permutation(grid.size) for grid in backbone.layout.levels]
        guidance = schedules.by_stage(schedules.over_tokens(1, 2.7), schedules.over_tokens(1, 2.5))
        calls = schedules.by_stage(PIVOTS[1], count)
        control = Control(guidance, head_steps=calls, max_timestep=950)
        return pivots(backbone.layout, orders, (min(PIVOTS[0], steps), min(DENSE, steps))), control
    order = Draws([0]).permutation(backbone.layout.size)
    # Untrained heads diverge unless timesteps are clipped as in DiSA.
    control = Control(schedules.over_tokens(1, 2.9), head_steps=count, max_timestep=950)
    return masked(backbone.layout, order, steps), control


@torch.inference_mode()
def sample(model: SimpleNamespace, plan: Plan, control: Control) -> dict[str, float]:
    """Draw the tokens of one picture and return calls and seconds of backbone and head, and of the last stage."""
    spent = {"calls": 0, "call_seconds": 0.0, "head_calls": 0, "head_seconds": 0.0, "last_stage_seconds": 0.0}
    empty = TokenSpec(plan.layout, channels=16).empty(1)
    run = start(model, plan, Cond(1, label=torch.tensor([207])), control, empty, Draws([0]))

    def step() -> None:
        proposal = propose(model, run)
        predict = proposal.predict

        def counted(*arguments: Any) -> Tensor:
            spent["head_calls"] += 1
            return predict(*arguments)

        proposal.predict, drawn = counted, []
        spent["head_seconds"] += seconds(lambda: drawn.append(proposal.sample(run.draws.at(run.k))))
        run.tokens.commit(proposal.group, drawn[0], proposal.read.positions)
        run.k += 1
        spent["calls"] += 1

    by_step = [seconds(step) for _ in range(len(plan))]
    total = sum(by_step)
    spent["call_seconds"] = total - spent["head_seconds"]
    last = zip(by_step, plan.stage, strict=True)
    spent["last_stage_seconds"] = sum(each for each, stage in last if stage == plan.stages - 1)
    return {**spent, "seconds": total}


def measure(model: str, head_steps: str, precision: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    torch.manual_seed(0)
    backbone, *heads = packed([config.build().eval() for config in MODELS[model]], precision)
    parts = SimpleNamespace(backbone=backbone, heads=heads)
    sample(parts, *setting(model, backbone, "3", min(arguments.steps, 2)))  # packs the weights
    with products([backbone, *heads]) as counts:
        spent = sample(parts, *setting(model, backbone, head_steps, arguments.steps))
    least = bound(counts, precision, repeat=2)
    dense = {"dense_seconds": round(spent["last_stage_seconds"], 2)} if len(heads) > 1 else {}
    return {
        "calls": spent["calls"], "s_per_call": round(spent["call_seconds"] / spent["calls"], 3),
        "head_calls": spent["head_calls"],
        "s_per_head_call": round(spent["head_seconds"] / spent["head_calls"], 4),
        **dense, "seconds": round(spent["seconds"], 2), "bound_seconds": round(least, 2),
        "share_of_bound": round(least / spent["seconds"], 3),
    }  # fmt: skip


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument(
        "--steps", type=int, default=64, help="autoregressive steps of MAR (default: %(default)s)"
    )


if __name__ == "__main__":
    choices = {"model": list(MODELS), "precision": list(PRECISIONS), "head_steps": ["50", "50:5"]}
    table(__doc__, choices, measure, options, free=("head_steps",))
