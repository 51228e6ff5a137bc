"""Claim: orders in which clips are drawn, at equal training operations: calls, seconds and distances, also by frame.

    python scripts/dev/reproduce/clips.py
    python scripts/dev/reproduce/clips.py --tokenizer runs/clip_atari/checkpoint --flops 8e13 --width 256 --num 300

Networks of equal size learn the codes of one tokenizer of clips; they are smaller than the shipped ones, which so few
operations would hardly train. What they draw is compared with the training clips in the features of a network of clips,
and frame by frame in those of a network of pictures: of every frame of tokens, the last one that it is decoded to.
Reconstructions by the tokenizer show how near an order can come, and what decoding takes. Blocks of one token are
raster order. Runs are kept in --runs: a trained arm is not trained again, and an interrupted one continues.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

import claim
import torch
from scorer import REBUILT, TimedPictures, TimedReconstructions, over_seeds, parser
from torch import Tensor
from training import add_training, trained_arm

from arzoo import data as datasets
from arzoo.base import runtime
from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
from arzoo.data.base import ImageSet
from arzoo.data.pictures import DataPictures, Pictures
from arzoo.data.scored_clips import Frames
from arzoo.generation.effort import head_calls
from arzoo.generation.generator import Generator
from arzoo.generation.kernels import Storage
from arzoo.metrics.cache import measure_once
from arzoo.metrics.evaluation import Options, evaluate_pictures
from arzoo.metrics.reference import Reference
from arzoo.metrics.samples import drawn_like, like_rows
from arzoo.metrics.scores.frechet import FrechetFrom, Statistics
from arzoo.metrics.scores.kernel import kernel_distance
from arzoo.models.vision.features import DEFAULT, DEFAULT_OF_CLIPS, FeatureNet, feature_net, pooled
from arzoo.viz.plots import Band, plot_bands

HEAD_CHANNELS = 32
Distances = dict[str, list[float]]


def arms(grid: Grid) -> dict[str, tuple[str, dict[str, Any]]]:
    """Recipe and changes of every arm, for tokens of a grid."""
    frame = grid.h * grid.w

    def blocks(size: int, **options: Any) -> tuple[str, dict[str, Any]]:
        return "nbp_atari", {"plan": {"name": "next_block", "size": size, "hybrid": True, **options}}

    return {
        "next-neighbor": ("nar_atari", {}),
        "parallel": ("nbp_atari", {"plan": "parallel"}),
        "raster": ("nbp_atari", {"plan": "raster"}),
        "row": blocks(grid.w),
        "row, causal": blocks(grid.w, causal=True),
        "half frame": blocks(frame // 2),
        "frame": blocks(frame),
    }


def last_frames(spec: TokenSpec, frames: int) -> list[int]:
    """Frames that the frames of tokens end with, of clips of some length."""
    return list(range(frames - 1, -1, -spec.downscale[0]))[::-1]


class ClipScorer:
    """Comparison of clips with the training clips.

    Args:
        data: The data set.
        net: Network of clips.
        eyes: Network of pictures, which looks at single frames.
        frames: Numbers of the frames that it looks at.
        num: Clips per seed.
    """

    def __init__(
        self, data: ImageSet, net: FeatureNet, eyes: FeatureNet, frames: Sequence[int], num: int
    ) -> None:
        train = data.split("train")
        clips, self.part = DataPictures(train, f"{data.name} train"), Frames(data.frames, 0, data.frames)
        self.net, self.eyes, self.frames, self.protocol = net, eyes, list(frames), dict[str, Any]()
        with progress("measuring the training clips", "clips") as report:
            self.reference = Reference(clips.name, measure_once(clips, net, progress=report))
        self.real = [measure_once(Frames(data.frames, frame, 1).of(clips), eyes) for frame in self.frames]
        self.from_real = [FrechetFrom(measured.statistics) for measured in self.real]
        self.labels, self.chosen = drawn_like(train.labels, num)
        self.some = DataPictures(train.select(like_rows(len(train), num)))

    def distances(self, clips: Pictures) -> Distances:
        """Frechet and kernel distance (`fd`, `kid`) of clips, and of their frames (`fd_by_frame`, `kid_by_frame`)."""
        features: list[list[Tensor]] = [[] for _ in self.frames]

        def look(images: Tensor, rows: Tensor) -> None:
            for frame, of_frame in zip(self.frames, features, strict=True):
                of_frame.append(pooled(self.eyes, images[:, frame]))

        with progress(clips.name, "clips") as report:
            options = Options(("fd", "kid"), replicates=0, part=self.part, progress=report, seen=look)
            evaluation = evaluate_pictures(clips, self.reference, self.net, options)
        self.protocol = evaluation.protocol.to_dict()
        fd, kid = (figure.value for figure in evaluation.figures.values())
        by_frame = [torch.cat(of_frame) for of_frame in features]
        return {
            "fd": [fd],
            "kid": [kid],
            "fd_by_frame": [
                distance(Statistics.of(x)) for distance, x in zip(self.from_real, by_frame, strict=True)
            ],
            "kid_by_frame": [
                kernel_distance(x, measured.features)
                for x, measured in zip(by_frame, self.real, strict=True)
                if measured.features is not None
            ],
        }

    def rebuilt(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """Row of reconstructions; the seconds are those of decoding."""
        clips = TimedReconstructions(tokenizer, self.some)
        row = over_all_seeds([self.distances(clips)])
        return {**row, "cpu_seconds": clips.seconds / len(clips)}

    def drawn(self, name: str, model: Generator, seeds: Sequence[int], storage: Storage) -> dict[str, Any]:
        """Row of a generator: distances, calls per clip (both branches of guidance are one), and CPU seconds."""
        parameters = sum(p.numel() for part in model.parts.values() for p in part.parameters())
        model, plan, by_seed, seconds = model.packed(storage), model.plan(), [], 0.0
        for seed in seeds:
            clips = TimedPictures(f"{name}, seed {seed}", model, self.labels, self.chosen, seed)
            by_seed.append(self.distances(clips))
            seconds += clips.seconds / len(clips)
        return {
            **over_all_seeds(by_seed), "network_calls": len(plan),
            "head_calls": head_calls(model, plan, model.control, range(len(plan))),
            "parameters": parameters, "cpu_seconds": seconds / len(seeds),
        }  # fmt: skip


def over_all_seeds(by_seed: Sequence[Distances]) -> dict[str, list[tuple[float, float | None]]]:
    """Means of distances over the seeds with their errors; `first`, `later` and `fall` of frames are kernel distances.

    `later` is the mean of all frames but the first, and `fall` how much it is above the first, seed by seed.
    """
    first = [distances["kid_by_frame"][:1] for distances in by_seed]
    later = [[sum(rest) / len(rest)] for rest in (distances["kid_by_frame"][1:] for distances in by_seed)]
    fall = [[after[0] - before[0]] for before, after in zip(first, later, strict=True)]
    values = {name: [distances[name] for distances in by_seed] for name in by_seed[0]}
    values |= {"first": first, "later": later, "fall": fall}
    return {
        name: [over_seeds(column) for column in zip(*lines, strict=True)] for name, lines in values.items()
    }


def cells(label: str, row: dict[str, Any]) -> list[str]:
    """Line of the table, in the order of `head`; kernel distances are shown times 1000."""
    names = ("kid", "first", "later", "fall")
    kernels = ([None if x is None else 1000 * x for x in row[name][0]] for name in names)
    return [
        label, *(str(row.get(name, "-")) for name in ("steps", "network_calls")), f"{row['cpu_seconds']:.3f}",
        claim.with_error(*row["fd"][0], 2), *(claim.with_error(value, error, 2) for value, error in kernels),
    ]  # fmt: skip


def head(net: str, eyes: str) -> list[str]:
    """Columns of the table."""
    frames = (f"KID x 1000 of the first frame ({eyes})", "of later frames", "later - first")
    return ["order", "steps", "network calls", "CPU s / clip", f"fvd_{net}", f"kvd_{net} x 1000", *frames]


def plot(rows: dict[str, Any], frames: Sequence[int], eyes: str) -> None:
    """Plot distances of single frames beside the figures."""
    panels = {
        f"{name}_{eyes}": {
            label: Band(frames, *zip(*row[f"{name}_by_frame"], strict=True)) for label, row in rows.items()
        }
        for name in ("fd", "kid")
    }
    plot_bands(panels, claim.CLAIMS / "clips.png", "frame", powers=False)


def opened(name: str) -> Tokenizer:
    """Open the tokenizer.

    Raises:
        UsageError: It has no grid of several frames of tokens.
    """
    tokenizer: Tokenizer = open_checkpoint(name, "tokenizer").load("tokenizer")
    layout = tokenizer.spec.layout
    if not isinstance(layout, Grid) or layout.t == 1 or not tokenizer.spec.downscale:
        raise UsageError(
            f"--tokenizer must have a grid of several frames of tokens, {name} has {layout}: give one of clips, such "
            "as clip_atari"
        )
    return tokenizer


def options() -> ArgumentParser:
    """Options of the claim."""
    known = parser(__doc__)
    add_training(known, flops=1e13)
    known.add_argument("--width", type=int, default=128, help="of the networks (default: %(default)s)")
    known.add_argument("--tokenizer", default="clip_atari", help="of clips (default: %(default)s)")
    known.add_argument("--data", default="atari12_clips", help="data set of clips (default: %(default)s)")
    known.add_argument("--net", default=DEFAULT_OF_CLIPS, help="network of clips (default: %(default)s)")
    known.add_argument("--eyes", default=DEFAULT, help="network of single frames (default: %(default)s)")
    known.set_defaults(num=64, seeds=[0, 1], precision="bf16")
    return known


def main() -> None:
    """Train, draw, score, write and plot."""
    arguments = options().parse_args()
    runtime.set_threads(1)
    tokenizer = opened(arguments.tokenizer)
    data = datasets.load(arguments.data, tokenizer.image_size[0], tokenizer.frames)
    frames = last_frames(tokenizer.spec, data.frames)
    scorer = ClipScorer(data, feature_net(arguments.net), feature_net(arguments.eyes), frames, arguments.num)
    rows = {REBUILT: scorer.rebuilt(tokenizer)}
    lines = [cells(REBUILT, rows[REBUILT])]
    for label, (name, changes) in arms(tokenizer.spec.layout).items():
        size = {
            "width": arguments.width,
            "heads": arguments.width // HEAD_CHANNELS,
            **changes.get("model", {}),
        }
        changes = {**changes, "tokenizer": arguments.tokenizer, "data": arguments.data, "model": size}
        model, facts = trained_arm(name, changes, arguments)
        rows[label] = scorer.drawn(label, model, arguments.seeds, arguments.precision) | facts
        lines.append(cells(label, rows[label]))
        print(" | ".join(lines[-1]), flush=True)
    claim.write(
        "clips", "Orders of clips at equal training operations", head(arguments.net, arguments.eyes), lines, rows,
        pictures=arguments.num, seeds=arguments.seeds, noun="clips",
        protocol=scorer.protocol | {
            "frames looked at": frames, "flops": arguments.flops, "width": arguments.width, "eyes": arguments.eyes
        },
    )  # fmt: skip
    plot(rows, frames, arguments.eyes)


if __name__ == "__main__":
    main()
