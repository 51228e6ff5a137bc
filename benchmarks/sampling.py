"""Seconds to sample the tokens of one 256 x 256 picture at the papers' B size, beside this machine's bound.

Raster and next-neighbor, 256 tokens, batch 1 with guidance (two rows a token), random weights. Every row is measured
in a process of its own.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --plan raster --precision fp32 --threads 1 --json
    python benchmarks/sampling.py --reference FOLDER     # another implementation in turn (A B A B): see `reference`
    python benchmarks/sampling.py --threads 1 --other FOLDER   # another checkout's fp32 in turn
"""

from __future__ import annotations

import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import PRECISIONS, Other, bound, packed, products, seconds, table
from torch import nn

from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import next_neighbor, raster

GRID, VOCAB = Grid(1, 16, 16), 16384
SPEC = TokenSpec(GRID, vocab=VOCAB)
PLANS = {"raster": raster(GRID), "next_neighbor": next_neighbor(GRID)}


def build(plan: str) -> SimpleNamespace:
    """Backbone and head of the B size with random weights."""
    axes = PLANS[plan].axes
    torch.manual_seed(0)
    backbone = TransformerConfig(vocab=VOCAB, axes=axes).build().eval()
    head = CategoricalConfig(vocab=VOCAB, axes=axes).build().eval()
    nn.init.normal_(head.output.weight, std=0.02)
    return SimpleNamespace(backbone=backbone, heads=[head])


@torch.inference_mode()
def sample(model: SimpleNamespace, plan: str, seed: int) -> int:
    """Draw one picture's tokens; returns the number of network calls."""
    cond, control = Cond(1, label=torch.tensor([seed % 1000])), Control(guidance=2.0)
    run = start(model, PLANS[plan], cond, control, SPEC.empty(1), Draws([seed]))
    return sum(1 for _ in generate(model, run))


def reference(folder: Path, plan: str) -> Callable[[int], Any]:
    """A sampler in fp32 from another implementation: modules `core`, `plans`, `models` and `heads` of a folder."""
    sys.path.insert(0, str(folder))
    import core
    import heads
    import plans as orders

    import models

    grid, axes = core.Grid(1, 16, 16), PLANS[plan].axes
    torch.manual_seed(0)
    backbone = models.Llama(768, 12, 12, VOCAB, 1000, grid, axes).eval()
    head = heads.Categorical(768, VOCAB, [models.RMSNorm(768, 1e-5) for _ in range(axes)]).eval()
    order, model = getattr(orders, plan)(grid), core.Model(backbone, [head])
    code = torch.zeros((), dtype=torch.long)

    @torch.inference_mode()
    def run(seed: int) -> None:
        cond, tokens = core.Cond(1, label=torch.tensor([seed % 1000])), core.Tokens.empty(1, grid.size, code)
        for _ in core.generate(
            model, core.start(model, order, cond, core.Control(2.0), tokens, core.Draws([seed]))
        ):
            pass

    return run


def other_picture(folder: Path, plan: str) -> Other:
    """A picture in fp32 by the `benchmarks/sampling.py` of another checkout."""
    return Other(
        folder,
        "from types import SimpleNamespace\nfrom common import packed\nimport sampling\n"
        f"made = sampling.build({plan!r})\nbackbone, *heads = packed([made.backbone, *made.heads], 'fp32')\n"
        "model = SimpleNamespace(backbone=backbone, heads=heads)\n"
        f"def run(): sampling.sample(model, {plan!r}, 1)\nrun()",
    )


def measure(plan: str, precision: str, arguments: Namespace) -> dict[str, Any]:
    """One row of the table."""
    made = build(plan)
    backbone, *heads = packed([made.backbone, *made.heads], precision, few=plan == "raster")
    model = SimpleNamespace(backbone=backbone, heads=heads)
    another = reference(arguments.reference, plan) if arguments.reference else None
    other = other_picture(arguments.other, plan) if arguments.other else None
    times: dict[str, list[float]] = {"ours": [], "reference": [], "other": []}
    with products([backbone, *heads]) as found:
        calls = sample(model, plan, 0)
    for seed in range(1, arguments.repeat + 1):
        times["ours"].append(seconds(lambda seed=seed: sample(model, plan, seed)))
        if another is not None:
            times["reference"].append(seconds(lambda seed=seed: another(seed)))
        if other is not None:
            times["other"].append(other())
    ours, least = statistics.median(times["ours"]), bound(found, precision)
    row = {
        "calls": calls, "seconds": round(ours, 3), "tokens_per_second": round(GRID.size / ours, 1),
        "bound_seconds": round(least, 3), "share_of_bound": round(least / ours, 3),
    }  # fmt: skip
    if times["reference"]:
        theirs = statistics.median(times["reference"])
        row |= {
            "reference_fp32_seconds": round(theirs, 3),
            "ratio_to_reference_fp32": round(ours / theirs, 3),
        }
    if other is not None:
        other.close()
        theirs = statistics.median(times["other"])
        row |= {"other_fp32_seconds": round(theirs, 3), "ratio_to_other_fp32": round(ours / theirs, 3)}
    return row


def options(parser: ArgumentParser) -> None:
    """Arguments beside the choices."""
    parser.add_argument("--repeat", type=int, default=3, help="counted pictures a row (default: %(default)s)")
    parser.add_argument("--other", type=Path, help="folder of another checkout to run in turn, in fp32")
    parser.add_argument("--reference", type=Path, help="folder of another implementation to run in turn")


if __name__ == "__main__":
    table(__doc__, {"plan": list(PLANS), "precision": list(PRECISIONS)}, measure, options)
