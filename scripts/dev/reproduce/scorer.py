"""Quality and cost of a generator, measured alike for all claims: distance over several seeds, calls, CPU seconds."""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import claim
import torch
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.core.condition import Cond
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.data.pictures import DataPictures, Pictures
from arzoo.generation.canvas import decoded, encoded
from arzoo.generation.effort import head_calls
from arzoo.generation.generator import Generator
from arzoo.generation.kernels import Storage
from arzoo.metrics.cache import measure_once
from arzoo.metrics.evaluation import Options, evaluate_pictures
from arzoo.metrics.reference import Reference
from arzoo.metrics.samples import DrawnPictures, drawn_like, like_rows
from arzoo.models.vision.features import FeatureNet, feature_net
from arzoo.samplers.loop import generate, start
from arzoo.train.flops import counter

REBUILT = "reconstructions"


class TimedPictures(DrawnPictures):
    """Drawn pictures that measure the CPU time of drawing."""

    seconds = 0.0

    def read(self, rows: Sequence[int]) -> Tensor:
        """Draw pictures (B, H, W, 3) uint8."""
        started = time.process_time()
        images = super().read(rows)
        self.seconds += time.process_time() - started
        return images


class TimedReconstructions(Pictures):
    """Reconstructions of pictures or clips that measure the CPU time of decoding."""

    def __init__(self, tokenizer: Tokenizer, clips: Pictures, name: str = REBUILT) -> None:
        super().__init__(name=name, count=len(clips), size=clips.size, frames=clips.frames)
        self.tokenizer, self.clips, self.seconds = tokenizer, clips, 0.0

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> Tensor:
        """Reconstruct pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8."""
        spec = self.tokenizer.spec
        tokens = encoded(self.tokenizer, spec, self.clips.read(rows), spec.layout)
        started = time.process_time()
        clips = decoded(self.tokenizer, spec, tokens, spec.layout, exact=True).as_subclass(Tensor)
        self.seconds += time.process_time() - started
        return clips[:, 0] if self.frames == 1 else clips


@torch.no_grad()
def sampling_operations(model: Generator) -> int:
    """Count the floating-point operations that draw the tokens of a picture, of both branches of guidance."""
    plan, cond = model.plan([0]), Cond(1, label=torch.tensor([0]))
    canvas = replace(model.spec, layout=plan.layout).empty(1)
    # The network as it is: products of packed weights would not be counted.
    run = start(model, plan, cond, model.control, canvas, Draws([0]))
    with counter() as counted:
        for _ in generate(model, run):
            pass
    return int(counted.get_total_flops())


def parser(doc: str | None) -> ArgumentParser:
    """Parser with the options that all claims have."""
    options = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--num", type=int, default=500, help="pictures per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    options.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of training and drawing (default: %(default)s)",
    )
    return options


class Scorer:
    """Comparison of drawn pictures with the training pictures.

    Args:
        data: Name of the data set.
        num: Pictures per seed.
        seeds: Seeds; the error of a mean is the standard error over them.
        storage: Format of packed weights for drawing.
    """

    def __init__(self, data: str, num: int, seeds: Sequence[int], storage: Storage = "fp32") -> None:
        self.net: FeatureNet = feature_net()
        train = datasets.load(data).split("train")
        self.reference = Reference(f"{data} train", measure_once(DataPictures(train), self.net))
        self.train = train
        self.labels, self.chosen = drawn_like(train.labels, num)
        self.seeds, self.storage, self.protocol = list(seeds), storage, {}
        self.features: list[Tensor] = []
        """Features (n, D) of the pictures of every seed that were scored last."""
        self.head = [f"fd_{self.net.name}", "network calls", "head calls", "CPU s / picture"]
        """Columns of a table of scores."""

    def distance(self, pictures: Pictures) -> float:
        """Frechet distance of pictures, whose features join `features`."""
        with progress(pictures.name, "pictures") as report:
            options = Options(("fd",), replicates=0, progress=report)
            evaluation = evaluate_pictures(pictures, self.reference, self.net, options)
        self.features.append(evaluation.samples.features)
        self.protocol = evaluation.protocol.to_dict()
        return float(evaluation.figures[f"fd_{self.net.name}"].value)

    def rebuilt(self, name: str, tokenizer: Tokenizer) -> dict[str, Any]:
        """Row of reconstructions of training pictures, as many as are drawn; the seconds are those of decoding."""
        some = DataPictures(self.train.select(like_rows(len(self.train), len(self.labels))))
        pictures, self.features = TimedReconstructions(tokenizer, some, name), []
        fd = self.distance(pictures)
        return {"fd": fd, "fd_error": None, "cpu_seconds": pictures.seconds / len(pictures)}

    def score(
        self, name: str, model: Generator, captions: bool = False, tokens: int | None = None
    ) -> dict[str, Any]:
        """Measure distance, calls per picture (both branches of guidance are one call), and CPU seconds per picture.

        Args:
            name: What to call the pictures.
            model: Draws them.
            captions: Draw the captions instead of the classes.
            tokens: Stop after so many tokens.
        """
        model, distances, seconds, self.features = model.packed(self.storage), [], 0.0, []
        requests = drawn_like(self.train.captions, len(self.labels))[0] if captions else self.labels
        for seed in self.seeds:
            pictures = TimedPictures(
                f"{name}, seed {seed}", model, requests, self.chosen, seed, tokens=tokens
            )
            distances.append(self.distance(pictures))
            seconds += pictures.seconds / len(pictures)
        plan = model.plan()
        steps = [k for k in range(len(plan)) if tokens is None or plan.progress(k).done < tokens]
        fd, error = over_seeds(distances)
        return {
            "fd": fd, "fd_error": error, "fd_of_seeds": distances,
            "network_calls": len(steps), "head_calls": head_calls(model, plan, model.control, steps),
            "cpu_seconds": seconds / len(self.seeds),
        }  # fmt: skip


def over_seeds(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of the values of several seeds, and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.fmean(values), error


def shown(row: dict[str, Any]) -> list[str]:
    """Cells of a table, in the order of `Scorer.head`."""
    counts = [str(row.get(name, "-")) for name in ("network_calls", "head_calls")]
    return [claim.with_error(row["fd"], row["fd_error"], 1), *counts, f"{row['cpu_seconds']:.3f}"]


def write(
    name: str, title: str, scorer: Scorer, rows: dict[str, Any], head: list[str], cells: list[list[str]]
) -> None:
    """Write the figures of a claim to `docs/claims`, for the results page.

    Args:
        name: Name of the file.
        title: Title of the claim.
        scorer: Scorer of the figures.
        rows: All measurements.
        head: Columns of the table before those of `Scorer.head`.
        cells: Lines of the table.
    """
    claim.write(
        name, title, [*head, *scorer.head], cells, rows, pictures=len(scorer.labels), seeds=scorer.seeds,
        protocol=scorer.protocol,
    )  # fmt: skip
