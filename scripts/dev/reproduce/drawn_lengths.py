"""Claim: a generator over ordered tokens may stop early; few tokens are enough for simple conditions ("FlexTok", 2025).

    python scripts/dev/reproduce/drawn_lengths.py --num 100
    python scripts/dev/reproduce/drawn_lengths.py runs/ar_ordered_emoji64/checkpoint --tokens 4 32 --num 50 --seeds 0 1

Draws the same requests with several numbers of tokens, by class and by caption if the model reads texts, and measures
the distance and how many pictures show what was asked for: a linear classifier, fitted to the features of the training
pictures (`Probe`), says what category and what sub-category it sees.
"""

from __future__ import annotations

from typing import Any

import claim
import torch
import torch.nn.functional as F
from scorer import Scorer, over_seeds, parser, shown
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.errors import UsageError
from arzoo.data.base import ImageSet
from arzoo.data.pictures import DataPictures
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text
from arzoo.metrics.cache import measure_once
from arzoo.metrics.samples import like_rows
from arzoo.metrics.scores.retrieval import mean_and_error

RIDGE = 0.1
"""Weight of the squares of the weights, relative to the number of pictures. With it, 68 % of the categories and 52 % of
the sub-categories of held-out drawings are seen right, with a third or three times of it as many within 3 %."""


class Probe:
    """A linear classifier of features, fitted by ridge regression of one-hot labels.

    Args:
        features: (n, D) features.
        labels: (n,) int64.
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-6
        x, one_hot = self._standard(features), F.one_hot(labels).double()
        self.share = one_hot.mean(0)
        ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        self.weight = torch.linalg.solve(x.T @ x + ridge, x.T @ (one_hot - self.share))

    def __call__(self, features: Tensor) -> Tensor:
        """Labels (n,) that it sees."""
        return (self._standard(features) @ self.weight + self.share).argmax(1)

    def _standard(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.deviation).double()


def subjects(data: ImageSet) -> Tensor:
    """Sub-category (n,) of every picture, its class without the style."""
    names = [name.partition("/")[0] for name in data.classes]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([numbers[name] for name in names])[data.labels]


def kinds(data: ImageSet) -> dict[str, Tensor]:
    """What a probe tells apart, by name: labels (n,)."""
    assert data.coarse is not None
    return {"category": data.coarse, "sub-category": subjects(data)}


def main() -> None:
    """Draw, score and write."""
    options = parser(__doc__)
    options.add_argument("model", nargs="?", default="ar_ordered_emoji64", help="default: %(default)s")
    options.add_argument(
        "--tokens", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="default: 1 2 4 8 16 32"
    )
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    arguments = options.parse_args()
    model = Generator.load(arguments.model)
    if not model.tokenizer.spec.prefix_ok:
        raise UsageError(
            f"{arguments.model} draws tokens of which a picture needs all; name one over ordered tokens"
        )
    scorer = Scorer(arguments.data, arguments.num, arguments.seeds, arguments.precision)
    held_out = datasets.load(arguments.data).split("validation")
    labels = kinds(scorer.train)
    probes = {name: Probe(scorer.reference.measured.features, right) for name, right in labels.items()}
    asked = {name: right[like_rows(len(scorer.train), arguments.num)] for name, right in labels.items()}
    real = measure_once(DataPictures(held_out), scorer.net).features
    limits = {name: mean_and_error(probes[name](real) == right) for name, right in kinds(held_out).items()}
    rows: dict[str, Any] = {"held-out drawings": limits}
    seen = [claim.with_error(*limit, 3) for limit in limits.values()]
    cells = [["held-out drawings", "", *seen, "", "", "", ""]]
    requests = {"class": bool(model.classes), "caption": takes_text(model.backbone)}
    for request in [name for name, possible in requests.items() if possible]:
        for count in arguments.tokens:
            row = scorer.score(f"{request}, {count} tokens", model, request == "caption", count)
            for name, probe in probes.items():
                shares = [
                    float((probe(features) == asked[name]).double().mean()) for features in scorer.features
                ]
                row[name], row[f"{name}_error"] = over_seeds(shares)
            rows[f"{request}, {count}"] = row
            seen = [claim.with_error(row[name], row[f"{name}_error"], 3) for name in probes]
            cells.append([request, str(count), *seen, *shown(row)])
            print(" | ".join(cells[-1]), flush=True)
    claim.write(
        "drawn_lengths", "Quality over the number of tokens drawn",
        ["request", "tokens", *probes, *scorer.head], cells, rows,
        pictures=len(scorer.labels), seeds=scorer.seeds, protocol=scorer.protocol,
    )  # fmt: skip


if __name__ == "__main__":
    main()
