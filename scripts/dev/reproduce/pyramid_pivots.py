"""Claim: pivots and a head over all tokens draw better pictures at equal operations (Hi-MAR, 2025).

    python scripts/dev/reproduce/pyramid_pivots.py
    python scripts/dev/reproduce/pyramid_pivots.py --flops 8e13 --num 200 --seeds 0 1 2 --dense-steps 1 2 4 8

All arms get the same number of training operations, as many steps as these pay for: pivots with a DiT head over the
dense tokens, pivots with an MLP head for each of them, and a masked model without pivots (MAR). The first arm draws
with several numbers of dense steps; the others get as many steps as come nearest to its operations for a picture. The
other settings of drawing are those of the recipes. Runs are kept in --runs: a trained arm is not trained again, and an
interrupted one continues.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import claim
from scorer import Scorer, parser, sampling_operations, shown, write
from training import add_training, trained_arm

from arzoo.generation.generator import Generator
from arzoo.viz.plots import Band, plot_bands

DIT, MLP, PLAIN = "pivots, DiT head", "pivots, MLP head", "no pivots"
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    DIT: ("himar_emoji64", {}),
    MLP: ("himar_emoji64", {"heads": [{"name": "diffusion_mlp_tiny"}, {"name": "diffusion_mlp_tiny"}]}),
    PLAIN: ("mar_emoji64", {}),
}
"""Recipe and changes of every arm; the first one sets the operations of drawing."""


def with_steps(model: Generator, steps: int) -> Generator:
    """Return the model with so many steps for the tokens that are decoded; pivots keep theirs."""
    pivots = model.plan_options["steps"][:-1] if model.plan().stages > 1 else None
    return model.with_plan(steps=steps if pivots is None else [*pivots, steps])


def nearest(cost: Callable[[int], float], target: float, most: int) -> int:
    """Return the number from 1 to `most` whose cost, which rises about linearly, is nearest to a target."""
    low, high = 1, most
    while high - low > 1 and cost(low) < target < cost(high):
        share = (target - cost(low)) / (cost(high) - cost(low))
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    return min(low, high, key=lambda number: abs(cost(number) - target))


def at_equal_operations(model: Generator, targets: Sequence[int]) -> list[int]:
    """Return the numbers of steps with which drawing comes nearest to numbers of operations."""
    cost = functools.cache(lambda steps: sampling_operations(with_steps(model, steps)))
    return [nearest(cost, target, model.spec.layout.size) for target in targets]


def main() -> None:
    """Train, draw, score, write and plot."""
    options = parser(__doc__)
    add_training(options, flops=2e13)
    options.add_argument(
        "--dense-steps", type=int, nargs="+", default=[2, 4], help="of the first arm (default: 2 4)"
    )
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.set_defaults(num=100, seeds=[0, 1], precision="bf16")
    arguments = options.parse_args()
    scorer = Scorer(arguments.data, arguments.num, arguments.seeds, arguments.precision)
    rows: dict[str, dict[str, Any]] = {}
    lines: dict[str, list[dict[str, Any]]] = {label: [] for label in ARMS}
    cells, targets = [], list[int]()
    for label, (name, changes) in ARMS.items():
        trained, facts = trained_arm(name, {**changes, "data": arguments.data}, arguments)
        counts = arguments.dense_steps if label == DIT else at_equal_operations(trained, targets)
        for steps in counts:
            model, key = with_steps(trained, steps), f"{label}, {steps} steps"
            operations = sampling_operations(model)
            if label == DIT:
                targets.append(operations)
            if key not in rows:
                rows[key] = scorer.score(key, model) | facts | {"sampling_flops": operations}
                lines[label].append(rows[key])
                cells.append([label, str(facts["steps"]), f"{operations / 1e9:.1f}", *shown(rows[key])])
                print(" | ".join(cells[-1]), flush=True)
    title = "Pivots and heads over all tokens at equal operations of training and drawing"
    write("pivots", title, scorer, rows, ["arm", "training steps", "GFLOP / picture"], cells)
    bands = {
        label: Band(
            *zip(*((row["sampling_flops"] / 1e9, row["fd"], row["fd_error"]) for row in line), strict=True)
        )
        for label, line in lines.items()
    }
    plot_bands({scorer.head[0]: bands}, claim.CLAIMS / "pivots.png", "GFLOP per picture", powers=False)


if __name__ == "__main__":
    main()
