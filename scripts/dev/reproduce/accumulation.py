"""Claim: errors of drawn tokens add up along a picture, less so if all later tokens were trained ("TokenUnify", 2025).

    python scripts/dev/reproduce/accumulation.py
    python scripts/dev/reproduce/accumulation.py --flops 1e13 --width 128 --num 100

Networks of equal size learn the codes of one tokenizer with different mixtures of losses, at equal training operations.
Each draws pictures of the classes of held-out ones from its own distribution, without guidance, temperature or filters.
A judge, which is another network on the same codes, gives the negative log-likelihood of every drawn token and of every
true one. The tokens of a perfect network surprise the judge as much as true ones on average, whatever the judge is. By
what they surprise it more is the error of a network, and its growth along the picture is what adds up, since a token at
place k is drawn after k own ones. Tokens of too little variety surprise it less.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

import claim
import torch
from scorer import over_seeds, parser
from torch import Tensor
from training import add_training, trained_arm

from arzoo import data as datasets
from arzoo.base import runtime
from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.base.runtime import sample_seed
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.data.base import ImageSet
from arzoo.data.pictures import chosen_rows
from arzoo.data.transforms import composite
from arzoo.generation.generator import Generator
from arzoo.train.conditions import Labels
from arzoo.train.example import Example, TokenLoss
from arzoo.train.run.health import loss_by_step
from arzoo.viz.plots import Band, plot_bands

BATCH = 50
ARMS: dict[str, dict[str, Any]] = {
    "next": {},
    "next and all later": {"next_all": 1.0},
    "next and hidden": {"random": 1.0},
    "all three, curriculum": {"curriculum": True},
}


class Judge:
    """How much more the tokens that a network draws surprise another one than true tokens do.

    Args:
        model: The other network.
        data: Held-out pictures, of the classes of the model.
        num: How many of them.
    """

    def __init__(self, model: Generator, data: ImageSet, num: int) -> None:
        rows = torch.tensor(chosen_rows(len(data), num))
        self.labels, self.plan = data.labels[rows], model.plan()
        self.network = TokenLoss(model.backbone, model.heads, self.plan).eval()
        codes = [model.encode(composite(data.pixels(part))).values for part in rows.split(BATCH)]
        self.true = self.surprise(torch.cat(codes))

    @torch.no_grad()
    def surprise(self, codes: Tensor) -> Tensor:
        """Negative log-likelihood (n, N) in nats of every token of codes (n, N)."""
        parts = []
        for rows in torch.arange(len(codes)).split(BATCH):
            some, cond = codes[rows], Labels(self.labels).cond(rows)
            parts.append(self.network(Example(some, some, cond, Draws(rows.tolist()))))
        return torch.cat(parts)

    def drawn(self, model: Generator, seed: int) -> Tensor:
        """Codes (n, N) that a network draws for the classes of the pictures."""
        parts = []
        with progress(f"drawing with seed {seed}", "pictures") as report:
            for rows in torch.arange(len(self.labels)).split(BATCH):
                seeds = [sample_seed(seed, row) for row in rows.tolist()]
                *_, last = model.stream(Labels(self.labels).cond(rows), seeds=seeds, control=Control())
                parts.append(last.run.tokens.values)
                report(int(rows[-1]) + 1, len(self.labels))
        return torch.cat(parts)

    def errors(self, model: Generator, seed: int) -> list[float]:
        """Mean excess over true tokens in nats per token, early to late, in at most 16 stretches."""
        excess = self.surprise(self.drawn(model, seed)) - self.true
        return loss_by_step(excess, self.plan).tolist()


def summary(by_seed: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Errors over the seeds: by stretch, of the first and the last quarter, and the growth between the two."""
    quarter = max(len(by_seed[0]) // 4, 1)
    first = [sum(errors[:quarter]) / quarter for errors in by_seed]
    last = [sum(errors[-quarter:]) / quarter for errors in by_seed]
    growth = [after - before for before, after in zip(first, last, strict=True)]
    return {
        "by_stretch": [over_seeds(column) for column in zip(*by_seed, strict=True)],
        "first": over_seeds(first), "last": over_seeds(last), "growth": over_seeds(growth),
    }  # fmt: skip


def judge_of(arguments: Any) -> tuple[Judge, str]:
    """Open the judge and the data, and return the tokenizer that the arms share with it.

    Raises:
        UsageError: The judge draws vectors, or the data has other classes.
    """
    model, data = Generator.load(arguments.judge), datasets.load(arguments.data)
    if not model.spec.discrete or model.classes != data.classes:
        raise UsageError(
            f"--judge must be a generator of codes with the classes of {arguments.data}, {arguments.judge} is not: "
            "give one such as raster_emoji64"
        )
    return Judge(model, data.split("validation"), arguments.num), model.tokenizer_hash


def options() -> ArgumentParser:
    """Options of the claim."""
    known = parser(__doc__)
    add_training(known, flops=4e13)
    known.add_argument("--recipe", default="mamba_emoji64", help="of all arms (default: %(default)s)")
    known.add_argument("--width", type=int, default=256, help="of the networks (default: %(default)s)")
    known.add_argument("--depth", type=int, default=8, help="of the networks (default: %(default)s)")
    known.add_argument("--judge", default="raster_emoji64", help="(default: %(default)s)")
    known.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    known.set_defaults(num=300)
    return known


def main() -> None:
    """Train, draw, judge, write and plot."""
    arguments = options().parse_args()
    runtime.set_threads(1)
    judge, tokenizer_hash = judge_of(arguments)
    rows, lines = dict[str, Any](), []
    size = {"width": arguments.width, "depth": arguments.depth}
    for label, mixture in ARMS.items():
        changes = {"data": arguments.data, "model": size, "generator": {"mixture": mixture}}
        model, facts = trained_arm(arguments.recipe, changes, arguments)
        if model.tokenizer_hash != tokenizer_hash:
            raise UsageError(
                f"--judge {arguments.judge} reads tokens of another tokenizer than recipe {arguments.recipe}: give one "
                f"over {model.tokenizer_name}"
            )
        row = rows[label] = summary([judge.errors(model, seed) for seed in arguments.seeds]) | facts
        figures = [claim.with_error(*row[name], 3) for name in ("first", "last", "growth")]
        lines.append([label, str(row["steps"]), f"{row['losses']['validation_loss']:.3f}", *figures])
        print(" | ".join(lines[-1]), flush=True)
    head = ["losses", "steps", "validation loss", "first quarter", "last quarter", "growth"]
    claim.write(
        "accumulation", "Errors of drawn tokens along a picture, by the losses of the training", head, lines, rows,
        pictures=len(judge.labels), seeds=arguments.seeds,
        protocol={"judge": arguments.judge, "flops": arguments.flops, **size, "unit": "nats per token over true ones"},
    )  # fmt: skip
    stretches = range(1, len(rows["next"]["by_stretch"]) + 1)
    bands = {label: Band(stretches, *zip(*row["by_stretch"], strict=True)) for label, row in rows.items()}
    plot_bands({"excess nats per token": bands}, claim.CLAIMS / "accumulation.png", "stretch", powers=False)


if __name__ == "__main__":
    main()
