"""Claim: fewer head steps late in a picture cost little quality ("DiSA: Diffusion Step Annealing", 2025).

    python scripts/dev/reproduce/annealing.py mar_emoji64 xar_emoji64
    python scripts/dev/reproduce/annealing.py himar_emoji64 --num 50 --seeds 0 1 --precision bf16

Draws the same pictures with constant and with annealed numbers of head steps, and writes distance, calls and CPU
seconds of each. Diffusion always starts at timestep 950: from 999, the long first step of a small number of steps
diverges. Models with two stages, pivots and dense tokens, anneal in both, or in one; head steps then count from the
first step of a stage on, and the published constant numbers, 100 and 250, are drawn too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import claim
from scorer import Scorer, parser, shown, write

from arzoo.cli.knobs import CLIP
from arzoo.core.control import Schedule
from arzoo.generation.effort import head_calls
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import anneal, by_stage
from arzoo.viz.plots import Band, plot_bands

Steps = dict[str, int | Schedule]
CONSTANT: Steps = {f"{n}": n for n in (50, 25, 10, 5)}
ANNEALED: Steps = {f"50 to 5, {shape}": anneal(50, 5, shape) for shape in ("linear", "cosine", "two-stage")}
IN_A_STAGE: Steps = {
    "50 pivots, 50 to 5 dense": by_stage(50, anneal(50, 5)),
    "50 to 5 pivots, 50 dense": by_stage(anneal(50, 5), 50),
}
PUBLISHED: Steps = {"100 pivots, 250 dense": by_stage(100, 250)}


def kinds(stages: int) -> dict[str, Steps]:
    """Numbers of head steps by kind, for plans of so many stages."""
    if stages == 1:
        return {"constant": CONSTANT, "annealed": ANNEALED}
    return {"constant": PUBLISHED | CONSTANT, "annealed": ANNEALED, "annealed in a stage": IN_A_STAGE}


def of_last_stage(model: Generator) -> int:
    """Head calls per picture in the last stage."""
    plan = model.plan()
    steps = [k for k, stage in enumerate(plan.stage) if stage == plan.stages - 1]
    return head_calls(model, plan, model.control, steps)


def plot(name: str, distance: str, rows: dict[str, dict[str, Any]], lines: dict[str, Steps]) -> None:
    """Plot distances over head calls beside the figures."""
    bands = {}
    for kind, steps in lines.items():
        points = sorted(
            (rows[label]["head_calls"], rows[label]["fd"], rows[label]["fd_error"]) for label in steps
        )
        bands[kind] = Band(*zip(*points, strict=True))
    plot_bands({distance: bands}, claim.CLAIMS / f"annealing_{name}.png", "head calls")


def main() -> None:
    """Draw, score, write and plot."""
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="checkpoints whose heads run a solver")
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    arguments = options.parse_args()
    scorer = Scorer(arguments.data, arguments.num, arguments.seeds, arguments.precision)
    for checkpoint in arguments.models:
        model, rows, cells = Generator.load(checkpoint), dict[str, dict[str, Any]](), []
        name, own, stages = checkpoint.strip("/").replace("/", "_"), model.control, model.plan().stages
        lines = kinds(stages)
        for label, steps in {
            label: steps for kind in lines.values() for label, steps in kind.items()
        }.items():
            model.control = replace(own, head_steps=steps, max_timestep=CLIP)
            row = rows[label] = scorer.score(label, model)
            cells.append([label, *shown(row)])
            if stages > 1:
                row["dense_head_calls"] = of_last_stage(model)
                cells[-1].insert(1, str(row["dense_head_calls"]))
            print(name, *cells[-1], flush=True)
        title = f"Fewer head steps late in a picture: {name}"
        head = ["head steps", *["head calls of dense tokens"][: stages - 1]]
        write(f"annealing_{name}", title, scorer, rows, head, cells)
        plot(name, scorer.head[0], rows, lines)


if __name__ == "__main__":
    main()
