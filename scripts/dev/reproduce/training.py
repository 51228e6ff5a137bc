"""Claims about training, each with arms that get the same number of floating-point operations.

    python scripts/dev/reproduce/training.py context      # noisy context learning or teacher forcing (xAR, 2025)
    python scripts/dev/reproduce/training.py unit         # X = cell, token, subsample, whole picture (xAR, 2025)
    python scripts/dev/reproduce/training.py family       # raster, next-neighbor, masked, next-X
    python scripts/dev/reproduce/training.py head         # masked with a diffusion or a flow head

Runs are kept in --runs: a finished arm is not trained again, and an interrupted one continues.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorer import Scorer, parser, shown, write

from arzoo.cli.knobs import CLIP
from arzoo.generation.generator import Generator
from arzoo.train.build import run
from arzoo.train.flops import counter
from arzoo.train.recipe import Recipe, load_recipe

TITLES = {
    "context": "Noisy context or teacher forcing",
    "unit": "What X is: cell, token, subsample, whole picture",
    "family": "Raster, next-neighbor, masked, next-X at equal training compute",
    "head": "A diffusion or a flow head on the same masked backbone",
}
CELLS = ("xar_emoji64", {})
ARMS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "context": {
        "noisy context": CELLS,
        "true context": ("xar_emoji64", {"generator": {"context": "true"}}),
    },
    "unit": {
        "cell": CELLS,
        "token": ("xar_emoji64", {"plan": {"regions": 8}}),
        "subsample": ("xar_emoji64", {"plan": {"name": "subsamples", "stride": 2}}),
        "whole": ("xar_emoji64", {"plan": "whole"}),
    },
    "family": {
        "raster": ("raster_emoji64", {"init": ""}),
        "next-neighbor": ("nar_emoji64", {}),
        "masked": ("mar_emoji64", {}),
        "next-X": CELLS,
    },
    "head": {
        "diffusion": ("mar_emoji64", {}),
        "flow": ("mar_emoji64", {"heads": ["flow_mlp_tiny"]}),
    },
}


def with_budget(recipe: Recipe, flops: float) -> Recipe:
    """The recipe with as many steps as the budget allows; the operations of one step are counted."""
    objective = recipe.build()
    name = next(iter(objective.parts))
    with counter() as counted:
        loss, _ = objective.loss(name, objective.parts, objective.batch(0, range(recipe.run.batch)), 0)
        assert loss is not None
        loss.backward()
    steps = int(flops / counted.get_total_flops())
    return recipe.replace(run={"steps": steps, "preview_every": steps, "accumulate": 1})


def add_training(options: ArgumentParser, flops: float) -> None:
    """Add the options of `trained_arm`."""
    options.add_argument(
        "--flops", type=float, default=flops, help="training operations per arm (default: %(default)g)"
    )
    options.add_argument(
        "--runs", type=Path, default=Path("runs/claims"), help="folder of the runs (default: %(default)s)"
    )


def trained(recipe: Recipe, flops: float, runs: Path) -> tuple[Path, dict[str, Any]]:
    """Train with a budget, as far as it is not trained yet; return the checkpoint and the result of the run."""
    recipe = with_budget(recipe, flops)
    folder = runs / recipe.replace(run={"threads": 0}).hash()
    return folder / "checkpoint", run(recipe, folder)


def trained_arm(name: str, changes: dict[str, Any], arguments: Namespace) -> tuple[Generator, dict[str, Any]]:
    """Train an arm as far as it is not trained yet.

    Args:
        name: Its recipe.
        changes: Settings that differ.
        arguments: `precision`, and what `add_training` adds.

    Returns:
        The generator, and steps, hours and losses of the training.
    """
    settings = {**changes, "run": {"precision": arguments.precision, "threads": 1}}
    recipe = load_recipe(name, settings)
    checkpoint, result = trained(recipe, arguments.flops, arguments.runs)
    model = Generator.load(checkpoint, recipe.tokenizer)
    return model, {"steps": result["steps"], "hours": result["hours"], "losses": result["metrics"]}


def main() -> None:
    """Train, draw, score and write."""
    options = parser(__doc__)
    options.add_argument("claim", choices=ARMS)
    add_training(options, flops=4e13)
    options.add_argument(
        "--head-steps",
        type=int,
        default=25,
        help="solver steps of heads with a solver (default: %(default)s)",
    )
    arguments = options.parse_args()
    scorer = Scorer("emoji64", arguments.num, arguments.seeds, arguments.precision)
    rows, cells = {}, []
    for label, (name, changes) in ARMS[arguments.claim].items():
        model, facts = trained_arm(name, changes, arguments)
        if not model.tokenizer.spec.discrete:
            model.control = replace(model.control, head_steps=arguments.head_steps, max_timestep=CLIP)
        row = rows[label] = scorer.score(label, model) | facts
        cells.append([label, str(row["steps"]), *shown(row)])
        print(" ".join(cells[-1]), flush=True)
    write(arguments.claim, TITLES[arguments.claim], scorer, rows, [arguments.claim, "steps"], cells)


if __name__ == "__main__":
    main()
