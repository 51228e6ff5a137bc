"""Claim: the more pictures a search may decode, the better its result to a judge; on ordered tokens a beam is one way.

    python scripts/dev/reproduce/search_budget.py
    python scripts/dev/reproduce/search_budget.py ar_ordered_emoji64 --num 2 --seeds 0 1 --budgets 16

Searches for pictures of classes with every method, each as large as a number of decoded pictures allows, by a model of
ordered tokens and by one of a grid. The judge looks with another network than what steers. Gains are differences to
plain drawing of the same class and seed.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
from searching import measured, summary

from arzoo.base.console import progress
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import weights_sha256
from arzoo.data.pictures import spread
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

MODELS = ("ar_ordered_emoji64", "raster_emoji64")
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
    """What searches of one model share: classes, verifiers, seeds, and the figures of plain drawing.

    Args:
        name: The model.
        num: Number of classes.
        seeds: Seeds, with one picture of every class each.
    """

    def __init__(self, name: str, num: int, seeds: list[int]) -> None:
        self.name, self.model, self.seeds = name, Generator.load(name), seeds
        self.classes = spread(len(self.model.classes), num)
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
    options.add_argument("models", nargs="*", default=MODELS, help=f"default: {' '.join(MODELS)}")
    options.add_argument("--num", type=int, default=6, help="classes, per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    options.add_argument("--budgets", type=int, nargs="+", default=[16, 64, 128], help="default: 16 64 128")
    arguments = options.parse_args()
    rows, cells, panels = dict[str, Any](), list[list[str]](), dict[str, dict[str, Any]]()
    weights = {}
    for name in arguments.models:
        field = Field(name, arguments.num, arguments.seeds)
        weights[name] = weights_sha256(field.model.backbone)
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
        protocol={"verifier": STEERING, "judge": JUDGE, "weights": weights},
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
