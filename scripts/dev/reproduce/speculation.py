"""Claim: several steps in one network call save calls, and seconds where a call waits for memory, at the same law.

    python scripts/dev/reproduce/speculation.py
    python scripts/dev/reproduce/speculation.py --draft runs/small/checkpoint --windows 2 4

Draws the tokens of the same pictures with the plain loop and with every method, window and batch, in one thread. Jacobi
iteration must draw the tokens of the plain loop: those that differ are counted. Seconds are CPU seconds of the steps,
without the pass over the condition and decoding. Figures are shares of the plain loop, by seed, with errors over seeds.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import claim
import torch
from scorer import over_seeds
from torch import Tensor

from arzoo.base import runtime
from arzoo.base.console import progress
from arzoo.checkpoints.folder import weights_sha256
from arzoo.data.pictures import chosen_rows
from arzoo.generation.generator import Generator
from arzoo.generation.request import condition
from arzoo.generation.runs import begin
from arzoo.generation.speculation import packed, speculation
from arzoo.samplers.loop import generate
from arzoo.samplers.schedules import control_to_data
from arzoo.samplers.speculative.base import Speculation
from arzoo.samplers.speculative.draft import Draft
from arzoo.samplers.speculative.jacobi import Jacobi
from arzoo.samplers.speculative.sjd import SpeculativeJacobi
from arzoo.viz.plots import Band, plot_bands

Make = Callable[[int], Speculation]

METHODS: dict[str, Make] = {
    "Jacobi": Jacobi,
    "speculative Jacobi, coupled": lambda window: SpeculativeJacobi(window, "gumbel"),
    "speculative Jacobi, fresh": SpeculativeJacobi,
}
FIGURES = ("calls", "CPU seconds")


@dataclass
class Spent:
    """Tokens (n, N) of some pictures, and what they cost: calls of the network and of one that drafts, CPU seconds."""

    tokens: Tensor
    calls: int
    draft_calls: int
    seconds: float


def spent(
    model: Generator, classes: list[int], seeds: list[int], batch: int, method: Speculation | None
) -> Spent:
    """Draw the tokens of pictures, batch after batch."""
    tokens, calls, draft_calls, seconds = [], 0, 0, 0.0
    for rows in torch.arange(len(classes)).split(batch):
        cond = condition(model, classes=[classes[i] for i in rows])
        drawing, run = begin(model, cond, [seeds[i] for i in rows], gumbel=True)
        drafting = None if method is None else packed(method)
        started = time.process_time()
        for _ in generate(drawing, run) if drafting is None else drafting.draw(drawing, run):
            pass
        seconds += time.process_time() - started
        tokens.append(run.tokens.values)
        calls, draft_calls = calls + run.passes, draft_calls + run.draft_passes
    return Spent(torch.cat(tokens), calls, draft_calls, seconds)


def measured(
    model: Generator, methods: dict[str, Make], windows: list[int], batch: int, num: int, seeds: list[int],
    report: Callable[[], None],
) -> dict[str, Any]:  # fmt: skip
    """Shares of the plain loop by method and window, and its own figures."""
    classes = chosen_rows(len(model.classes), num)
    shares: dict[str, dict[int, list[dict[str, float]]]] = {
        name: {w: [] for w in windows} for name in methods
    }
    plain = []
    for seed in seeds:
        own = [runtime.sample_seed(seed, i) for i in range(num)]
        base = spent(model, classes, own, batch, None)
        plain.append(base)
        report()
        for name, make in methods.items():
            for window in windows:
                method = speculation(model, make(window))
                drawn = spent(model, classes, own, batch, method)
                row = {"calls": drawn.calls / base.calls, "CPU seconds": drawn.seconds / base.seconds}
                row["draft calls"] = drawn.draft_calls / base.calls
                if method.same:
                    row["tokens that differ"] = int((drawn.tokens != base.tokens).sum())
                shares[name][window].append(row)
                report()
    return {
        "plain": {
            "calls per picture": sum(one.calls for one in plain) * batch / num / len(seeds),
            "CPU seconds per picture": sum(one.seconds for one in plain) / num / len(seeds),
        },
        **shares,
    }


def main() -> None:
    """Draw, write and plot."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument(
        "--model", default="raster_emoji64", help="generator of classes (default: %(default)s)"
    )
    options.add_argument("--draft", help="a smaller generator of the same tokens that drafts `window` steps")
    options.add_argument(
        "--windows", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="steps in one call"
    )
    options.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="pictures drawn at once")
    options.add_argument("--num", type=int, default=8, help="pictures per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    arguments = options.parse_args()
    runtime.set_threads(1)
    model, methods = Generator.load(arguments.model), dict(METHODS)
    if arguments.draft:
        drafter = Generator.load(arguments.draft)
        methods["draft, block"] = lambda length: Draft(drafter, length)
    windows, seeds = arguments.windows, arguments.seeds
    total = len(arguments.batches) * len(seeds) * (1 + len(methods) * len(windows))
    done, rows = 0, dict[str, Any]()
    with progress("drawing", "ways") as tell:

        def report() -> None:
            nonlocal done
            done += 1
            tell(done, total)

        for batch in arguments.batches:
            rows[f"batch {batch}"] = measured(model, methods, windows, batch, arguments.num, seeds, report)
    cells, panels = [], dict[str, dict[str, Band]]()
    for batch, row in rows.items():
        for name in methods:
            for window in windows:
                own = row[name][window]
                figures = {figure: over_seeds([one[figure] for one in own]) for figure in FIGURES}
                differ = (
                    sum(one["tokens that differ"] for one in own) if "tokens that differ" in own[0] else "-"
                )
                shown = [claim.with_error(*figure, 2) for figure in figures.values()]
                cells.append([batch.removeprefix("batch "), name, str(window), *shown, str(differ)])
                for figure, (mean, error) in figures.items():
                    lines = panels.setdefault(f"{figure}, {batch}", {})
                    band = lines.get(name, Band([], [], []))
                    lines[name] = Band([*band.x, window], [*band.values, mean], [*band.errors, error])
    claim.write(
        "speculation", "Several steps in one network call",
        ["batch", "method", "window", *FIGURES, "tokens that differ"], cells, rows, pictures=arguments.num, seeds=seeds,
        protocol={
            "model": arguments.model, "weights": weights_sha256(model.backbone), "draft": arguments.draft,
            "control": control_to_data(model.control), "shares of": "the plain loop with the same noise",
        },
    )  # fmt: skip
    plot_bands(panels, claim.CLAIMS / "speculation.png", "steps in one call")
    for line in cells:
        print(" | ".join(line))


if __name__ == "__main__":
    main()
