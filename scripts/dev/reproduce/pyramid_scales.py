"""Claim: next-scale order against next-neighbor and raster order at equal training operations (VAR, 2024).

    python scripts/dev/reproduce/pyramid_scales.py --tokenizer runs/msvq_emoji64/checkpoint
    python scripts/dev/reproduce/pyramid_scales.py --tokenizer runs/msvq_emoji64/checkpoint --flops 8e13 --num 300

Next-scale order needs a tokenizer of its own kind, so the arms have different codes: reconstructions by both tokenizers
show how near each can come. Networks and settings of drawing are those of the recipes. Runs are kept in --runs: a
trained arm is not trained again, and an interrupted one continues.
"""

from __future__ import annotations

from typing import Any

from scorer import REBUILT, Scorer, parser, sampling_operations, shown, write
from training import ARMS as TRAINED
from training import add_training, trained_arm

from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.contracts import Tokenizer


def arms(tokenizer: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Recipe and changes of every arm, with a tokenizer of scales."""
    family = TRAINED["family"]
    return {
        "next-scale": ("var_emoji64", {"tokenizer": tokenizer}),
        "next-neighbor": family["next-neighbor"],
        "raster": family["raster"],
    }


def refuse_other(name: str) -> None:
    """Refuse a tokenizer without scales.

    Raises:
        UsageError: Its tokens are no pyramid of codes.
    """
    tokenizer = open_checkpoint(name, "tokenizer").load("tokenizer")
    if tokenizer.spec.canvas is None:
        raise UsageError(
            f"--tokenizer must have a pyramid of codes, {name} has {tokenizer.spec.layout}: give one that "
            "`arzoo train msvq_emoji64` trained"
        )


def main() -> None:
    """Train, draw, score and write."""
    options = parser(__doc__)
    add_training(options, flops=2e13)
    options.add_argument("--tokenizer", default="msvq_emoji64", help="of scales (default: %(default)s)")
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.set_defaults(num=150, seeds=[0, 1, 2], precision="bf16")
    arguments = options.parse_args()
    refuse_other(arguments.tokenizer)
    scorer = Scorer(arguments.data, arguments.num, arguments.seeds, arguments.precision)
    rows, cells, tokenizers = dict[str, Any](), list[list[str]](), dict[str, Tokenizer]()
    for label, (name, changes) in arms(arguments.tokenizer).items():
        model, facts = trained_arm(name, {**changes, "data": arguments.data}, arguments)
        tokenizers.setdefault(model.tokenizer_name, model.tokenizer)
        row = rows[label] = scorer.score(label, model) | facts
        row["parameters"] = sum(p.numel() for part in model.parts.values() for p in part.parameters())
        row["sampling_flops"] = sampling_operations(model)
        cells.append([label, str(row["steps"]), f"{row['sampling_flops'] / 1e9:.2f}", *shown(row)])
        print(" | ".join(cells[-1]), flush=True)
    for name, tokenizer in tokenizers.items():
        label = f"{REBUILT} by {name}"
        rows[label] = scorer.rebuilt(label, tokenizer)
        cells.append([label, "-", "-", *shown(rows[label])])
    title = "Next-scale, next-neighbor and raster order at equal training operations"
    write("next_scale", title, scorer, rows, ["order", "training steps", "GFLOP / picture"], cells)


if __name__ == "__main__":
    main()
