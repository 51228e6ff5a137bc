"""Seconds to sample the tokens of one 256 x 256 picture at the papers' B size, compared with the bound of this machine.

Raster and next-neighbor, 256 tokens, batch 1 with guidance (two rows per token), random weights. Every row is measured
in a separate process.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --plan raster --precision fp32 --threads 1 --json
    python benchmarks/sampling.py --reference FOLDER     # alternate with another implementation: see `reference`
    python benchmarks/sampling.py --threads 1 --other FOLDER   # alternate with fp32 of another checkout
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
from common import PRECISIONS, OtherCheckout, bound, packed, products, seconds, table
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
    """Build backbone and head of size B with random weights."""
    axes = PLANS[plan].axes
    torch.manual_seed(0)
    backbone = TransformerConfig(vocab=VOCAB, axes=axes).build().eval()
    head = CategoricalConfig(vocab=VOCAB, axes=axes).build().eval()
    nn.init.normal_(head.output.weight, std=0.02)
    return SimpleNamespace(backbone=backbone, heads=[head])


@torch.inference_mode()
def sample(model: SimpleNamespace, plan: str, seed: int) -> int:
    """Draw the tokens of one picture and return the number of network calls."""
    cond, control = Cond(1, label=torch.tensor([seed % 1000])), Control(guidance=2.0)
    run = start(model, PLANS[plan], cond, control, SPEC.empty(1), Draws([seed]))
    return sum(1 for _ in generate(model, run))


def reference(folder: Path, plan: str) -> Callable[[int], Any]:
    """Build an fp32 sampler from another implementation: modules `core`, `plans`, `models` and `heads` of a folder."""
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


def other_picture(folder: Path, plan: str) -> OtherCheckout:
    """Draw a picture in fp32 with the `benchmarks/sampling.py` of another checkout."""
    return OtherCheckout(
        folder,
        "from types import SimpleNamespace\nfrom common import packed\nimport sampling\n"
        f"plain = sampling.build({plan!r})\nbackbone, *heads = packed([plain.backbone, *plain.heads], 'fp32')\n"
        "model = SimpleNamespace(backbone=backbone, heads=heads)\n"
        f"def run(): sampling.sample(model, {plan!r}, 1)\nrun()",
    )


def measure(plan: str, precision: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    plain = build(plan)
    backbone, *heads = packed([plain.backbone, *plain.heads], precision, few=plan == "raster")
    model = SimpleNamespace(backbone=backbone, heads=heads)
    implementation = reference(arguments.reference, plan) if arguments.reference else None
    checkout = other_picture(arguments.other, plan) if arguments.other else None
    times: dict[str, list[float]] = {"arzoo": [], "reference": [], "other": []}
    with products([backbone, *heads]) as counts:
        calls = sample(model, plan, 0)
    for seed in range(1, arguments.repeat + 1):
        times["arzoo"].append(seconds(lambda seed=seed: sample(model, plan, seed)))
        if implementation is not None:
            times["reference"].append(seconds(lambda seed=seed: implementation(seed)))
        if checkout is not None:
            times["other"].append(checkout())
    median, least = statistics.median(times["arzoo"]), bound(counts, precision)
    row = {
        "calls": calls, "seconds": round(median, 3), "tokens_per_second": round(GRID.size / median, 1),
        "bound_seconds": round(least, 3), "share_of_bound": round(least / median, 3),
    }  # fmt: skip
    if times["reference"]:
        reference_median = statistics.median(times["reference"])
        row |= {
            "reference_fp32_seconds": round(reference_median, 3),
            "ratio_to_reference_fp32": round(median / reference_median, 3),
        }
    if checkout is not None:
        checkout.close()
        other_median = statistics.median(times["other"])
        row |= {
            "other_fp32_seconds": round(other_median, 3),
            "ratio_to_other_fp32": round(median / other_median, 3),
        }
    return row


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--repeat", type=int, default=3, help="timed pictures per row (default: %(default)s)")
    parser.add_argument("--other", type=Path, help="folder of another checkout to alternate with, in fp32")
    parser.add_argument("--reference", type=Path, help="folder of another implementation to alternate with")


if __name__ == "__main__":
    table(__doc__, {"plan": list(PLANS), "precision": list(PRECISIONS)}, measure, options)
