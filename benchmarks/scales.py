"""Seconds to sample the codes of one 256 x 256 picture with VAR-d16, compared with the bound of this machine.

Ten levels, random weights, batch 1 with guidance (two rows per token), top-k 900, top-p 0.96, as published. Every row
is measured in a separate process. The bound is that of the matrix products; the sums of levels, whose convolutions
belong to the tokenizer, are part of the seconds. `static_caches` says whether keys and values stayed in one place.

    python benchmarks/scales.py --threads 2
    python benchmarks/scales.py --precision bf16 --threads 1 --repeat 1 --json
"""

from __future__ import annotations

import statistics
from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from typing import Any

import torch
from common import PRECISIONS, bound, packed, products, seconds, table
from torch import nn

from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.state import State
from arzoo.core.tokens import TokenSpec
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.var.network import VARConfig
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.scales import scales
from arzoo.tokenizers.quantizers.multi_scale import LevelSums, MultiScaleQuantizer

CONVOLUTIONS = 4
CONTROL = Control(guidance=schedules.over_steps(1, 2.5), top_k=900, top_p=0.96)
CONFIG = VARConfig()


def build() -> SimpleNamespace:
    """Build backbone, head and the contract of the tokenizer with random weights."""
    torch.manual_seed(0)
    backbone = CONFIG.build().eval()
    head = CategoricalConfig(width=CONFIG.width, vocab=CONFIG.vocab, plain=True).build().eval()
    nn.init.normal_(head.output.weight, std=0.02)
    quantizer = MultiScaleQuantizer(CONFIG.vocab, CONFIG.code_channels, CONFIG.layout, CONVOLUTIONS)
    spec = TokenSpec(CONFIG.layout, vocab=CONFIG.vocab, prefix_ok=True, canvas=LevelSums(quantizer.eval()))
    return SimpleNamespace(backbone=backbone, heads=[head], spec=spec)


def places(state: State) -> list[int]:
    """Addresses of the cached keys and values."""
    return [tensor.data_ptr() for pair in state.kv for tensor in pair]


@torch.inference_mode()
def sample(model: SimpleNamespace, seed: int) -> tuple[int, bool]:
    """Draw the codes of one picture; return the number of network calls, and whether the caches stayed in one place."""
    model.backbone.attach(model.spec)
    cond = Cond(1, label=torch.tensor([seed % 1000]))
    run = start(model, scales(CONFIG.layout), cond, CONTROL, model.spec.empty(1), Draws([seed]))
    before, calls = places(run.state), sum(1 for _ in generate(model, run))
    return calls, places(run.state) == before != []


def measure(precision: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    plain = build()
    backbone, head = packed([plain.backbone, *plain.heads], precision)
    model = SimpleNamespace(backbone=backbone, heads=[head], spec=plain.spec)
    del plain
    with products([backbone, head]) as counts:
        calls, static = sample(model, 0)
    times = [seconds(lambda seed=seed: sample(model, seed)) for seed in range(1, arguments.repeat + 1)]
    median, least = statistics.median(times), bound(counts, precision)
    return {
        "calls": calls, "static_caches": static, "seconds": round(median, 3), "bound_seconds": round(least, 3),
        "share_of_bound": round(least / median, 3),
    }  # fmt: skip


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--repeat", type=int, default=3, help="timed pictures per row (default: %(default)s)")


if __name__ == "__main__":
    table(__doc__, {"precision": list(PRECISIONS)}, measure, options)
