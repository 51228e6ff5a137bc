"""Seconds to sample a clip of 5 x 16 x 16 codes in blocks of a row, out of 64,000 codes, top-k 16000, top-p 0.9.

Networks of NBP with random weights, the first row given, batch 1. Every step draws 16 codes. The logits of every eighth
step then go through a literal version of the published filter: per position top-k, a full sort, softmax, a draw; its
seconds are those of all steps. `network` is all time but that of filter and draw.

    python benchmarks/next_block.py --threads 1
    python benchmarks/next_block.py --size base --precision fp32 --threads 1 --json
"""

from __future__ import annotations

import math
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from common import PRECISIONS, bound, packed, products, seconds, table
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.control import Control, Settings
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.models.heads import categorical
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.nbp.network import NBPConfig
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import next_block

GRID = Grid(5, 16, 16)
SIZES = {"small": {"width": 512, "depth": 8, "heads": 8}, "base": {"width": 1536, "depth": 24, "heads": 16}}
VOCAB, TOP_K, TOP_P = 64000, 16000, 0.9


def build(size: str) -> SimpleNamespace:
    """Build backbone and head with random weights."""
    torch.manual_seed(0)
    backbone = NBPConfig(vocab=VOCAB, grid=GRID.shape, **SIZES[size]).build().eval()
    head = CategoricalConfig(width=backbone.width, vocab=VOCAB, layer_norm=True).build().eval()
    nn.init.normal_(head.output.weight, std=0.02)
    return SimpleNamespace(backbone=backbone, heads=[head])


def literal(logits: Tensor, settings: Settings) -> Tensor:
    """Draw codes (B, m) as the published sampler does, one position after another."""
    codes = []
    for row in logits.flatten(0, 1):
        kept = row.masked_fill(row < row.topk(settings.top_k).values[-1], -math.inf)
        values, order = kept.sort(descending=True)
        beyond = values.softmax(-1).cumsum(-1) > settings.top_p
        beyond[1:] = beyond[:-1].clone()
        beyond[0] = False
        kept[order[beyond]] = -math.inf
        codes.append(torch.multinomial(kept.softmax(-1), 1))
    return torch.cat(codes).view(logits.shape[:2])


@contextmanager
def watched() -> Iterator[tuple[list[float], list[tuple[Tensor, Settings]]]]:
    """Keep the seconds of filter and draw of every step, and the logits of every eighth."""
    draw, spent, kept = categorical.draw_codes, [], []

    def timed(logits: Tensor, settings: Settings, draws: Draws) -> Tensor:
        codes = []
        if len(spent) % 8 == 0:
            kept.append((logits.clone(), settings))
        spent.append(seconds(lambda: codes.append(draw(logits, settings, draws))))
        return codes[0]

    categorical.draw_codes = timed
    try:
        yield spent, kept
    finally:
        categorical.draw_codes = draw


@torch.inference_mode()
def sample(model: SimpleNamespace, seed: int) -> int:
    """Draw the codes of a clip and return the number of network calls."""
    plan = next_block(GRID, GRID.w)
    known = (torch.arange(GRID.size) < GRID.w)[None]
    tokens = Tokens.of(torch.randint(VOCAB, (1, GRID.size)), known)
    run = start(model, plan, Cond(1), Control(top_k=TOP_K, top_p=TOP_P), tokens, Draws([seed]))
    return sum(1 for step in generate(model, run) if step.proposal is not None)


def measure(size: str, precision: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    plain = build(size)
    backbone, head = packed([plain.backbone, *plain.heads], precision)
    model = SimpleNamespace(backbone=backbone, heads=[head])
    del plain
    with products([backbone, head]) as counts:
        calls = sample(model, 0)
    times: dict[str, list[float]] = {"total": [], "draw": [], "literal": []}
    for seed in range(1, arguments.repeat + 1):
        with watched() as (spent, kept):
            times["total"].append(seconds(lambda seed=seed: sample(model, seed)))
        times["draw"].append(sum(spent))
        # Afterwards: what it leaves in caches and memory is not to disturb the other.
        slow = [seconds(lambda given=given: literal(*given)) for given in kept]
        times["literal"].append(sum(slow) / len(slow) * calls)
    total, draw, other = (statistics.median(times[name]) for name in ("total", "draw", "literal"))
    least = bound(counts, precision)
    return {
        "calls": calls, "seconds": round(total, 3), "filter_and_draw_seconds": round(draw, 3),
        "literal_filter_and_draw_seconds": round(other, 3), "ratio_to_literal": round(draw / other, 3),
        "filter_and_draw_share": round(draw / total, 3), "bound_seconds": round(least, 3),
        "network_share_of_bound": round(least / (total - draw), 3),
    }  # fmt: skip


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--repeat", type=int, default=3, help="timed clips per row (default: %(default)s)")


if __name__ == "__main__":
    table(__doc__, {"size": list(SIZES), "precision": list(PRECISIONS)}, measure, options)
