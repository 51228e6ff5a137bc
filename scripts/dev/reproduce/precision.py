"""Claim: weights in fewer bits draw faster and as well.

    python scripts/dev/reproduce/precision.py
    python scripts/dev/reproduce/precision.py nar_emoji64 --storage fp32 int8 --num 50 --seeds 0 1

Draws the same requests with the same seeds with weights kept in several ways (`arzoo generate --precision`), and
measures the distance, how far the pictures are from those of the first way, and CPU seconds.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, get_args

import claim
import torch
from scorer import Scorer, over_seeds

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.generation.generator import Generator
from arzoo.generation.kernels import Storage
from arzoo.generation.prompts import takes_text


def generators() -> list[str]:
    """Names of the shipped generators."""
    return [name for name in bundled() if open_checkpoint(name).kind == "generator"]


def main() -> None:
    """Draw, score and write."""
    every = get_args(Storage)
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("models", nargs="*", help="checkpoints (default: all shipped generators)")
    options.add_argument(
        "--storage", nargs="+", choices=every, default=every, help="the first is compared with"
    )
    options.add_argument("--num", type=int, default=100, help="pictures per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    arguments = options.parse_args()
    scorer = Scorer("emoji64", arguments.num, arguments.seeds)
    rows: dict[str, dict[str, Any]] = {}
    cells = []
    for name in arguments.models or generators():
        model = Generator.load(name)
        full, alone = None, 0.0
        for storage in arguments.storage:
            scorer.storage = storage
            row = rows[f"{name}, {storage}"] = scorer.score(name, model, takes_text(model.backbone))
            features = torch.stack(scorer.features)
            if full is None:
                full, alone = features, row["cpu_seconds"]
            drift = 1 - torch.cosine_similarity(features, full, dim=-1).mean(1)
            row["drift"], row["drift_error"] = over_seeds(drift.tolist())
            row["ratio"] = row["cpu_seconds"] / alone
            cells.append(
                [
                    name,
                    storage,
                    claim.with_error(row["fd"], row["fd_error"], 1),
                    claim.with_error(row["drift"], row["drift_error"], 3),
                    f"{row['cpu_seconds']:.3f}",
                    f"{row['ratio']:.2f}",
                ]
            )
            print(" | ".join(cells[-1]), flush=True)
    claim.write(
        "precision", "Weights in fewer bits",
        ["model", "weights", scorer.head[0], f"cosine distance to {arguments.storage[0]}", "CPU s / picture", "ratio"],
        cells, rows, pictures=len(scorer.labels), seeds=scorer.seeds, protocol=scorer.protocol,
    )  # fmt: skip


if __name__ == "__main__":
    main()
