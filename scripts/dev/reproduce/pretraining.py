"""Claim: what a network of volumes predicts in pre-training decides how well it segments ("TokenUnify", 2025).

    python scripts/dev/reproduce/pretraining.py
    python scripts/dev/reproduce/pretraining.py --pretraining 2e13 --flops 2e13 --seeds 0 1 2 3
    python scripts/dev/reproduce/pretraining.py --arms none "all three" --sides 16 160 160    # a part of it

Every arm is pre-trained with the same operations, on volumes without labels, and then trained on affinities with the
same operations again; the arm without pre-training has the second part alone, and another one spends both parts on
affinities. Each is trained once per seed. Scores are those of a volume that no training sees, segmented as `arzoo
segment` does. Runs are kept in --runs: a trained arm is not trained again, and an interrupted one continues.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import claim
from scorer import over_seeds, parser
from training import add_training, trained

from arzoo.base import runtime
from arzoo.data.em import em_synthetic
from arzoo.metrics.scores.segmentation import SegmentationScores, segmentation_scores
from arzoo.segmentation.segmenter import Segmenter
from arzoo.segmentation.segments import segments
from arzoo.train.recipe import load_recipe

TASKS = {"affinities": 0.0, "random": 0.0, "next": 0.0, "next_all": 0.0, "masked": 0.0}
ARMS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "random": {"random": 1.0},
    "next": {"next": 1.0},
    "next and all later": {"next": 1.0, "next_all": 1.0},
    "all three": {"random": 1.0, "next": 1.0, "next_all": 1.0},
    "all three, curriculum": {"curriculum": True},
    "masked autoencoder": {"masked": 1.0, "share": 0.75, "fill": "zeros"},
}
LONGER = "none, affinities for both parts"
EVERY = (*ARMS, LONGER)
FIGURES = ("voi", "voi_split", "voi_merge", "adapted_rand_error")


def scores_of(arm: str, seed: int, arguments: Namespace) -> SegmentationScores:
    """Train an arm with a seed, and score how it segments."""
    tasks, runs = ARMS.get(arm), arguments.runs
    changes = {"segmenter": {"volumes": arguments.volumes}, "run": {"seed": seed, "threads": 1}}
    fine = load_recipe("segmamba_em", changes)
    if tasks is not None:
        pre = load_recipe("segmamba_em_pretrain", changes).replace(segmenter={**TASKS, **tasks})
        fine = fine.replace(init=str(trained(pre, arguments.pretraining, runs)[0]))
    flops = arguments.flops + (arguments.pretraining if arm == LONGER else 0)
    segmenter = Segmenter.load(trained(fine, flops, runs)[0])
    volume = em_synthetic(tuple(arguments.sides))
    assert volume.labels is not None
    return segmentation_scores(segments(segmenter.affinities(volume)), volume.labels)


def main() -> None:
    """Train, segment, score and write."""
    options = parser(__doc__)
    add_training(options, flops=1e13)
    options.add_argument(
        "--pretraining",
        type=float,
        default=1e13,
        help="operations of pre-training per arm (default: %(default)g)",
    )
    options.add_argument("--volumes", type=int, default=4, help="volumes to train on (default: %(default)s)")
    options.add_argument("--arms", nargs="+", choices=EVERY, default=EVERY, help="(default: all)")
    options.add_argument(
        "--sides",
        type=int,
        nargs=3,
        default=[32, 256, 256],
        help="of the volume that is scored (default: 32 256 256)",
    )
    arguments = options.parse_args()
    runtime.set_threads(1)
    rows, cells = {}, []
    for arm in arguments.arms:
        by_seed = [scores_of(arm, seed, arguments) for seed in arguments.seeds]
        row = rows[arm] = {
            name: over_seeds([getattr(scores, name) for scores in by_seed]) for name in FIGURES
        }
        cells.append([arm, *(claim.with_error(*row[name], 3) for name in FIGURES)])
        print(" | ".join(cells[-1]), flush=True)
    protocol = {
        "volume": "em_synthetic, number 0", "sides": arguments.sides, "labels": "as they are",
        "method": "mean_affinity at 0.5", "pretraining": arguments.pretraining, "flops": arguments.flops,
        "volumes": arguments.volumes,
    }  # fmt: skip
    claim.write(
        "pretraining", "What a network of volumes predicts before it segments, at equal training operations",
        ["pre-training", "VOI (bits)", "split", "merge", "adapted Rand error"], cells, rows,
        pictures=1, seeds=arguments.seeds, protocol=protocol, noun="volume",
    )  # fmt: skip


if __name__ == "__main__":
    main()
