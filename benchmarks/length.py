"""Time and memory over the length of the canvas: attention, Mamba-1 and Mamba-2 of about as many parameters.

Raster order, 256 to 16,384 codes per picture, batch 1, float32, random weights. A training pass is forward and backward
with all gradients; a token is one step near the end of the canvas, without guidance, after the others were fed at once.
The state is what the backbone keeps while drawing; peaks are the largest resident memory of the process beyond that
before the pass. Every row is measured in a separate process. CPU time is of all threads, and says more than time where
the machine does other work.

    python benchmarks/length.py
    python benchmarks/length.py --model attention mamba2 --length 256 4096 --threads 1 --json
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from common import seconds, table
from torch import nn

from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.mamba.network import MambaConfig
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import raster

VOCAB = 2048
MODELS = ("attention", "mamba1", "mamba2")
LAYERS = 15 / 8
"""Layers of Mamba for each of a transformer, which have about as many parameters."""
LENGTHS = ["256", "1024", "4096", "16384"]


def config_of(model: str, width: int, depth: int) -> BackboneConfig:
    """Config of a backbone with about as many parameters as a transformer of some width and depth."""
    if model == "attention":
        return TransformerConfig(
            width=width, depth=depth, heads=max(width // 64, 1), hidden_multiple=64, vocab=VOCAB, dropout=0.0,
            token_dropout=0.0,
        )  # fmt: skip
    layers = round(LAYERS * depth)
    return MambaConfig(version=int(model[-1]), width=width, depth=layers, vocab=VOCAB, positions=False)


def build(model: str, length: int, width: int, depth: int) -> tuple[SimpleNamespace, TokenSpec]:
    """Build backbone and head for a square canvas of so many tokens."""
    side = math.isqrt(length)
    config = config_of(model, width, depth).replace(grid=(1, side, length // side))
    torch.manual_seed(0)
    backbone, head = config.build(), CategoricalConfig(width=width, vocab=VOCAB).build()
    nn.init.normal_(head.output.weight, std=0.02)
    return SimpleNamespace(backbone=backbone, heads=[head]), TokenSpec(Grid(*config.grid), vocab=VOCAB)


def peak() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of one call, and its CPU seconds."""
    started = time.process_time()
    spent = seconds(function)
    return spent, time.process_time() - started


def measure(model: str, length: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    parts, spec = build(model, int(length), arguments.width, arguments.depth)
    plan, cond = raster(spec.layout), Cond(1, label=torch.tensor([0]))
    codes = torch.randint(VOCAB, (1, spec.layout.size), generator=torch.Generator().manual_seed(0))

    def token_seconds() -> tuple[list[float], int]:
        """Seconds and CPU seconds per token near the end, and bytes of the state there."""
        known = torch.arange(spec.layout.size)[None] < spec.layout.size - arguments.tokens
        run = start(parts, plan, cond, Control(), Tokens.of(codes.clone(), known), Draws([0]))
        steps = (step for step in generate(parts, run) if step.proposal is not None)
        next(steps)  # it feeds all tokens that are given
        return [spent / (arguments.tokens - 1) for spent in timed(lambda: [*steps])], run.state.nbytes

    def train() -> None:
        read = parts.backbone.features(Tokens.of(codes), cond, plan)
        parts.heads[0].loss(read, codes).mean().backward()

    with torch.inference_mode():
        parts.backbone.eval()
        idle = peak()
        drawn = [token_seconds() for _ in range(arguments.repeat)]
        drawing = peak() - idle
    parts.backbone.train()
    train()
    token, token_cpu = map(statistics.median, zip(*(spent for spent, _ in drawn), strict=True))
    training, training_cpu = map(
        statistics.median, zip(*(timed(train) for _ in range(arguments.repeat)), strict=True)
    )
    return {
        "parameters": sum(p.numel() for p in parts.backbone.parameters()),
        "token_ms": round(1e3 * token, 3),
        "token_cpu_ms": round(1e3 * token_cpu, 3),
        "state_mib": round(drawn[0][1] / 2**20, 3),
        "drawing_peak_mib": round(drawing),
        "training_seconds": round(training, 4),
        "training_cpu_seconds": round(training_cpu, 4),
        "training_peak_mib": round(peak() - idle),
    }


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--width", type=int, default=256, help="of all networks (default: %(default)s)")
    parser.add_argument(
        "--depth",
        type=int,
        default=8,
        help="layers of the transformer; those of Mamba follow (default: %(default)s)",
    )
    parser.add_argument("--repeat", type=int, default=3, help="timed passes per row (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=33, help="tokens that are drawn (default: %(default)s)")


if __name__ == "__main__":
    table(__doc__, {"model": list(MODELS), "length": LENGTHS}, measure, options, free={"length"})
