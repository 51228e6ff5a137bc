"""Seconds to sample the tokens of one 256 x 256 picture at the papers' B size, beside this machine's bound.

Raster and next-neighbor, 256 tokens, batch 1 with guidance (two rows a token), random weights. Every number of
threads gets a process of its own. The bound is the time of all matrix products alone, with the fastest of the
available kernels for each number of rows and every layer's weights in its own memory: what no implementation in
that precision can beat here.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --plan raster --precision fp32 --threads 1 --json
    python benchmarks/sampling.py --reference FOLDER     # another implementation in turn (A B A B): see `reference`
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from arzoo.cond import Cond
from arzoo.control import Control
from arzoo.draws import Draws
from arzoo.layout import Grid
from arzoo.models.heads import CategoricalConfig
from arzoo.models.packed import Storage, pack, tile_units
from arzoo.models.transformer import TransformerConfig
from arzoo.samplers import plans
from arzoo.samplers.loop import generate, start
from arzoo.tokens import TokenSpec

GRID, VOCAB = Grid(1, 16, 16), 16384
SPEC = TokenSpec(GRID, vocab=VOCAB)
PLANS = {"raster": plans.raster(GRID), "next_neighbor": plans.next_neighbor(GRID)}
PRECISIONS = ("fp32", "bf16", "half")
STORAGE: dict[str, Storage] = {"fp32": "fp32", "bf16": "bf16", "half": "fp16"}
"""How each precision keeps its weights; see arzoo.models.packed for what `bf16` does without tile units."""


def build(plan: str) -> SimpleNamespace:
    """Backbone and head of the B size with random weights."""
    axes = PLANS[plan].axes
    torch.manual_seed(0)
    backbone = TransformerConfig(vocab=VOCAB, axes=axes).build().eval()
    head = CategoricalConfig(vocab=VOCAB, axes=axes).build().eval()
    nn.init.normal_(head.output.weight, std=0.02)
    return SimpleNamespace(backbone=backbone, heads=[head])


def ready(model: SimpleNamespace, precision: str) -> SimpleNamespace:
    """The model prepared for sampling in a precision."""
    storage = STORAGE[precision]
    return SimpleNamespace(
        backbone=pack(model.backbone, storage), heads=[pack(h, storage) for h in model.heads]
    )


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

    def run(seed: int) -> None:
        cond, tokens = core.Cond(1, label=torch.tensor([seed % 1000])), core.Tokens.empty(1, grid.size, code)
        for _ in core.generate(
            model, core.start(model, order, cond, core.Control(2.0), tokens, core.Draws([seed]))
        ):
            pass

    return run


def bound(plan: str, precision: str) -> float:
    """Seconds of the matrix products of one picture, by the fastest kernel for each number of rows."""
    model = build(plan)
    linears = [
        m for part in (model.backbone, *model.heads) for m in part.modules() if isinstance(m, nn.Linear)
    ]
    rows: dict[int, int] = {2: 1}  # the condition
    for group in PLANS[plan].groups[:-1]:
        rows[2 * group.shape[1]] = rows.get(2 * group.shape[1], 0) + 1
    return sum(count * pass_seconds(linears, m, precision) for m, count in rows.items())


@torch.inference_mode()
def pass_seconds(linears: list[nn.Linear], rows: int, precision: str) -> float:
    """Best time of one pass of `rows` rows through all layers."""
    inputs = {n: torch.randn(rows, n) for n in {m.in_features for m in linears}}
    packed = [pack(m, STORAGE[precision]) for m in linears]
    kernels: list[Callable[[], Any]] = [lambda: [m(inputs[m.in_features]) for m in packed]]
    if precision == "fp32":
        kernels.append(lambda: [m(inputs[m.in_features]) for m in linears])
    if precision == "bf16" and tile_units():
        low = [(inputs[m.in_features].bfloat16(), m.weight.bfloat16()) for m in linears]
        kernels.append(lambda: [F.linear(x, weight) for x, weight in low])
    return min(min(seconds(kernel) for _ in range(3)) for kernel in kernels)


def seconds(function: Callable[[], Any]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def measure(plan: str, precision: str, repeat: int, folder: Path | None) -> dict[str, Any]:
    """One row of the table."""
    model = ready(build(plan), precision)
    other = reference(folder, plan) if folder else None
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    calls = sample(model, plan, 0)
    for seed in range(1, repeat + 1):
        times["ours"].append(seconds(lambda seed=seed: sample(model, plan, seed)))
        if other is not None:
            times["reference"].append(seconds(lambda seed=seed: other(seed)))
    ours, least = statistics.median(times["ours"]), bound(plan, precision)
    row = {
        "plan": plan, "precision": precision, "threads": torch.get_num_threads(), "calls": calls,
        "seconds": round(ours, 3), "tokens_per_second": round(GRID.size / ours, 1),
        "bound_seconds": round(least, 3), "share_of_bound": round(least / ours, 3),
    }  # fmt: skip
    if times["reference"]:
        theirs = statistics.median(times["reference"])
        row |= {
            "reference_fp32_seconds": round(theirs, 3),
            "ratio_to_reference_fp32": round(ours / theirs, 3),
        }
    return row


def main() -> None:
    """Run every configuration and print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", nargs="*", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3, help="counted pictures a row (default: %(default)s)")
    parser.add_argument("--reference", type=Path, help="folder of another implementation to run in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(arguments.threads[0])
        print(
            json.dumps(
                measure(arguments.plan[0], arguments.precision[0], arguments.repeat, arguments.reference)
            )
        )
        return
    rows = []
    for threads in arguments.threads:
        for plan in arguments.plan:
            for precision in arguments.precision:
                command = [sys.executable, __file__, "--one", "--plan", plan, "--precision", precision]
                command += ["--threads", str(threads), "--repeat", str(arguments.repeat)]
                command += ["--reference", str(arguments.reference.resolve())] if arguments.reference else []
                rows.append(
                    json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                )
                if not arguments.json:
                    print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
