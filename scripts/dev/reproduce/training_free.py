"""Claim: a verifier and a tokenizer of ordered tokens draw what a caption says, without a generator.

    python scripts/dev/reproduce/training_free.py
    python scripts/dev/reproduce/training_free.py --num 4 --seeds 0 --tokens 1 2

Searches among equally likely codes for the picture that `image_text` likes best ("(1D) Ordered Tokens Enable Efficient
Test-Time Search", 2026). Judges score every picture with its caption and with the caption of another picture; held-out
drawings with the same captions are the most that a judge can tell apart.
"""

from __future__ import annotations

import statistics
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
import torch
from scorer import over_seeds
from searching import scores_of
from torch import Tensor

import arzoo
from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import weights_sha256
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import composite
from arzoo.generation.training_free import training_free
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.metrics.agreement import different_captions
from arzoo.metrics.scores.retrieval import derangement
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.lengths import fixed
from arzoo.samplers.verifiers.base import Subject
from arzoo.viz.plots import Band, plot_bands

JUDGES: dict[str, dict[str, Any]] = {"image_text:seed=1": {"seed": 1}, "class_probe": {}}
"""Judges with their settings: other heads on the networks of what steers, and another network."""


def judgements(images: Tensor, captions: list[str], order: Tensor) -> dict[str, tuple[float, float]]:
    """Mean scores by judge of pictures (n, H, W, 3) with their captions, and with those of another one each."""
    columns = [
        [
            scores_of(JUDGES, image[None], Subject(prompt=text))
            for image, text in zip(images, texts, strict=True)
        ]
        for texts in (captions, [captions[i] for i in order.tolist()])
    ]
    right, other = (
        {name: statistics.fmean(float(each[name]) for each in column) for name in JUDGES}
        for column in columns
    )
    return {name: (right[name], other[name]) for name in JUDGES}


def summary(scores: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    """Means and errors over seeds of scores with the right caption, with another one, and of their difference."""
    row: dict[str, Any] = {}
    for name in scores[0]:
        pairs = [each[name] for each in scores]
        columns = {
            "right": [right for right, _ in pairs],
            "other": [other for _, other in pairs],
            "difference": [right - other for right, other in pairs],
        }
        row[name] = {column: over_seeds(values) for column, values in columns.items()}
    return row


def main() -> None:
    """Search, judge and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--tokenizer", default="ordered_emoji64", help="default: %(default)s")
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument("--num", type=int, default=8, help="held-out captions (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    options.add_argument(
        "--tokens", type=int, nargs="+", default=[1, 2, 4, 6], help="tokens to search (default: 1 2 4 6)"
    )
    options.add_argument("--width", type=int, default=2, help="width of the beam (default: %(default)s)")
    options.add_argument("--candidates", type=int, default=12, help="default: %(default)s")
    arguments = options.parse_args()
    tokenizer = arzoo.load(arguments.tokenizer)
    assert isinstance(tokenizer, Tokenizer)
    held_out = datasets.load(arguments.data).split("validation")
    chosen = held_out.select(different_captions(held_out, arguments.num, 0))
    captions = list(chosen.captions or ())
    order = derangement(len(captions), 0)
    algorithms = {
        f"searched {count}": Beam(arguments.width, arguments.candidates, lengths=fixed(count))
        for count in arguments.tokens
    }
    rows, total = dict[str, Any](), len(algorithms) * len(arguments.seeds) * len(captions)
    with progress("pictures", "pictures") as report:
        done = 0
        for name, algorithm in algorithms.items():
            scores, decodes = list[dict[str, tuple[float, float]]](), 0
            for seed in arguments.seeds:
                images = list[Tensor]()
                for i, caption in enumerate(captions):
                    verifier = open_verifier("image_text", Subject(prompt=caption))
                    result = training_free(tokenizer, verifier, algorithm, seed=sample_seed(seed, i))
                    assert result.pictures is not None
                    images.append(result.pictures[0, 0])
                    decodes += result.spent.decodes
                    done += 1
                    report(done, total)
                scores.append(judgements(torch.stack(images), captions, order))
            rows[name] = {"decodes": decodes / len(captions) / len(arguments.seeds), **summary(scores)}
    searched = list(rows.values())
    drawings = composite(chosen.pixels(torch.arange(len(chosen))))
    rows["held-out drawings"] = summary([judgements(drawings, captions, order)])
    cells = [
        [
            what,
            f"{row['decodes']:.0f}" if "decodes" in row else "-",
            name,
            *(claim.with_error(*row[name][column], 3) for column in ("right", "other", "difference")),
        ]
        for what, row in rows.items()
        for name in JUDGES
    ]
    claim.write(
        "training_free", "Pictures from a verifier alone",
        ["tokens", "decodes", "judge", "with its caption", "with another", "difference"], cells, rows,
        pictures=len(captions), seeds=arguments.seeds,
        protocol={
            "tokenizer": arguments.tokenizer, "weights": weights_sha256(tokenizer), "captions": captions,
            "data_sha256": held_out.sha256, "verifier": "image_text", "judges": JUDGES,
            "methods": {name: repr(algorithm) for name, algorithm in algorithms.items()},
        },
    )  # fmt: skip
    panels = {}
    for name in JUDGES:
        line = [row[name]["difference"] for row in searched]
        band = Band([row["decodes"] for row in searched], *zip(*line, strict=True))
        panels[name] = {"its caption - another one": band}
    plot_bands(panels, claim.CLAIMS / "training_free.png", "decoded pictures")


if __name__ == "__main__":
    main()
