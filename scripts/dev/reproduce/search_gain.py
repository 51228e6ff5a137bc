"""Claim: a search draws what held-out captions say better than plain drawing, also to a judge with another network.

    python scripts/dev/reproduce/search_gain.py
    python scripts/dev/reproduce/search_gain.py nar_emoji64_text --num 20 --samples 10

Searches for every held-out caption with the default settings of `arzoo search --prompt` (best of 50 by the mean rank of
two verifiers), and lets judges score the result and what the same seed draws without a search.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
import torch
from searching import opened, scores_of
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import weights_sha256
from arzoo.generation.generator import Generator
from arzoo.metrics.agreement import different_captions
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.verifiers.base import Subject
from arzoo.samplers.verifiers.ensemble import RankEnsemble

STEERING: dict[str, dict[str, Any]] = {
    "image_text": {},
    "class_probe:net=effnet_lite0": {"net": "effnet_lite0"},
}
JUDGES: dict[str, dict[str, Any]] = {
    "image_text:seed=1": {"seed": 1}, "class_probe": {}, "realism": {"net": "squeezenet", "seed": 1},
}  # fmt: skip
"""Other heads on the networks that steer, and two judges that look with another network."""


def paired(pairs: Tensor) -> dict[str, float]:
    """Means of (n, 2) scores before and after, and the mean difference with its standard error over captions."""
    before, after = pairs.unbind(1)
    gain = after - before
    error = float(gain.std() / len(gain) ** 0.5)
    return {
        "plain": float(before.mean()),
        "search": float(after.mean()),
        "gain": float(gain.mean()),
        "error": error,
    }


def main() -> None:
    """Search, judge and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("models", nargs="*", default=["ar_ordered_emoji64", "nar_emoji64_text"])
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument("--num", type=int, default=85, help="held-out captions (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options.add_argument("--samples", type=int, default=50, help="candidates (default: %(default)s)")
    arguments = options.parse_args()
    held_out = datasets.load(arguments.data).split("validation")
    captions = list(held_out.select(different_captions(held_out, arguments.num, 0)).captions or ())
    rows, weights = dict[str, dict[str, Any]](), dict[str, str]()
    for name in arguments.models:
        model, scores = Generator.load(name), list[dict[str, Tensor]]()
        weights[name] = weights_sha256(model.backbone)
        with progress(name, "captions") as report:
            for i, caption in enumerate(captions):
                seeds = [sample_seed(arguments.seed, i)]
                subject = Subject(prompt=caption)
                steering = RankEnsemble(opened(STEERING, subject))
                result = model.search(BestOfN(arguments.samples), steering, prompts=[caption], seeds=seeds)
                assert result.pictures is not None
                plain = model.generate(prompts=[caption], seeds=seeds).stills
                pair = torch.cat([plain, result.pictures[0]])
                scores.append(scores_of(JUDGES, pair, subject))
                report(i + 1, len(captions))
        rows[name] = {judge: paired(torch.stack([each[judge] for each in scores])) for judge in JUDGES}
    cells = [
        [
            name,
            judge,
            f"{row['plain']:.3f}",
            f"{row['search']:.3f}",
            claim.with_error(row["gain"], row["error"], 3),
        ]
        for name, judges in rows.items()
        for judge, row in judges.items()
    ]
    claim.write(
        "search_gain", "What a search with its default settings buys on held-out captions",
        ["model", "judge", "plain", "search", "gain"], cells, rows, pictures=len(captions), seeds=[arguments.seed],
        protocol={
            "weights": weights, "captions": captions, "data_sha256": held_out.sha256, "verifier": STEERING,
            "judges": JUDGES, "method": repr(BestOfN(arguments.samples)),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
