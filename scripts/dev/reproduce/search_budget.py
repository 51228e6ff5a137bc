"""Claim: the more pictures a search may decode, the better its result to a judge; on ordered tokens a beam is one way.

    python scripts/dev/reproduce/search_budget.py
    python scripts/dev/reproduce/search_budget.py ar_ordered_emoji64 --num 2 --seeds 0 1 --budgets 16

Searches for pictures of classes with every method, each as large as a number of decoded pictures allows, by a model of
ordered tokens and by one of a grid, which is trained first: with the recipe, the size and the operations of the other.
The judge looks with another network than what steers. Gains are differences to plain drawing of the same class and
seed.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
from searching import measured, summary
from training import add_training, trained_arm

from arzoo.base.console import progress
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import weights_sha256
from arzoo.data.pictures import chosen_rows
from arzoo.generation.generator import Generator
from arzoo.generation.search import subject_of
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.lengths import geometric
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.viz.plots import Band, plot_bands

ORDERED, GRID = "ar_ordered_emoji64", "grid"
"""A shipped model, and what stands for the model that is trained as it was, over the codes of a grid."""
CHANGES: dict[str, Any] = {
    "tokenizer": "vq_emoji64", "plan": "raster",
    "model": {"name": "nar_text_tiny", "dropout": 0.05, "token_dropout": 0.05},
}  # fmt: skip
"""How the recipe of the grid differs."""
FLOPS = 1.127e14
"""Operations of the training of the shipped model: 2400 steps of 47.0 GFLOPs, those of the optimizer left out."""
STEERING: dict[str, Any] = {}
JUDGE = {"net": "effnet_lite0"}
"""Settings of the `class_probe` that steers and of the one that judges."""
HEAD = ("model", "method", "decodes", "network calls", "CPU s", "judge", "gain", "what steers")


def width_of(budget: int, comparisons: int) -> int:
    """Width w of the widest beam with 2 w candidates that decodes no more pictures than the budget, at least 1."""
    width = 1
    while 2 * (width + 1) + (comparisons - 1) * 2 * (width + 1) ** 2 <= budget:
        width += 1
    return width


def arms(steps: int, budgets: list[int]) -> dict[str, list[Search]]:
    """Methods by name, one for every budget, over a plan of so many steps."""
    comparisons = len(geometric(steps))
    widths = [width_of(budget, comparisons) for budget in budgets]
    return {
        "best of N": [BestOfN(budget) for budget in budgets],
        "beam": [Beam(width, 2 * width) for width in widths],
        "lookahead": [Lookahead(width, 2 * width) for width in widths],
        "particles": [Particles(max(2, budget // comparisons), temperature=1.0) for budget in budgets],
    }


class Field:
    """What searches by one model share: classes, verifiers, seeds, and the figures of plain drawing.

    Args:
        model: The model.
        num: Number of classes.
        seeds: Seeds, with one picture of every class each.
    """

    def __init__(self, model: Generator, num: int, seeds: list[int]) -> None:
        self.model, self.seeds = model, seeds
        self.classes = chosen_rows(len(self.model.classes), num)
        subjects = [subject_of(self.model, [label]) for label in self.classes]
        self.verifiers = [open_verifier("class_probe", subject, **STEERING) for subject in subjects]
        self.judges = [open_verifier("class_probe", subject, **JUDGE) for subject in subjects]
        self.plain = self.figures(BestOfN(1))

    def figures(self, way: Search) -> list[dict[str, float]]:
        """Mean figures of every seed."""
        return [
            measured(self.model, way, self.classes, self.verifiers, self.judges, sample_seed(seed, 0))
            for seed in self.seeds
        ]

    def row(self, way: Search) -> dict[str, float | None]:
        """Figures over the seeds, with the gain over plain drawing."""
        figures = self.figures(way)
        for each, base in zip(figures, self.plain, strict=True):
            each["gain"] = each["judge"] - base["judge"]
        return summary(figures)


def main() -> None:
    """Search, judge, write and plot."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("models", nargs="*", default=[ORDERED, GRID], help=f"default: {ORDERED} {GRID}")
    options.add_argument("--num", type=int, default=6, help="classes, per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    options.add_argument("--budgets", type=int, nargs="+", default=[16, 64, 128], help="default: 16 64 128")
    add_training(options, FLOPS)
    arguments = options.parse_args()
    arguments.precision = "bf16"
    rows, cells, panels = dict[str, Any](), list[list[str]](), dict[str, dict[str, Any]]()
    weights, training = {}, {}
    for name in arguments.models:
        if name == GRID:
            model, training[name] = trained_arm(ORDERED, CHANGES, arguments)
        else:
            model = Generator.load(name)
        field = Field(model, arguments.num, arguments.seeds)
        weights[name] = weights_sha256(model.backbone)
        rows[f"{name}, plain"] = field.row(BestOfN(1))
        cells.append(line(name, "plain", rows[f"{name}, plain"]))
        panels[name] = {}
        with progress(name, "ways") as report:
            ways = arms(len(field.model.plan()), arguments.budgets)
            for done, (method, sizes) in enumerate(ways.items(), 1):
                results = [field.row(way) for way in sizes]
                for budget, row in zip(arguments.budgets, results, strict=True):
                    rows[f"{name}, {method}, {budget}"] = row
                    cells.append(line(name, method, row))
                    print(" | ".join(cells[-1]), flush=True)
                panels[name][method] = Band(
                    arguments.budgets,
                    [row["gain"] for row in results],
                    [row["gain_error"] for row in results],
                )
                report(done, len(ways))
    claim.write(
        "search_budget", "What a search buys for the pictures that it decodes", HEAD, cells, rows,
        pictures=arguments.num, seeds=arguments.seeds,
        protocol={"verifier": STEERING, "judge": JUDGE, "weights": weights, "training": training},
    )  # fmt: skip
    plot_bands(panels, claim.CLAIMS / "search_budget.png", "decoded pictures at most")


def line(model: str, method: str, row: dict[str, float | None]) -> list[str]:
    """A line of the table."""
    scores = [claim.with_error(row[name], row[f"{name}_error"], 2) for name in ("judge", "gain", "verifier")]
    return [
        model, method, f"{row['decodes']:.0f}", f"{row['network_calls']:.0f}", f"{row['seconds']:.1f}", *scores,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
