"""Measure the shipped models; write docs/results.json, docs/results.md and the metrics.json of every checkpoint.

    python scripts/dev/results.py                   # all shipped checkpoints
    python scripts/dev/results.py mar_emoji64       # one; the figures of the others stay, but all are timed again
    python scripts/dev/results.py --num 200 --out trial.json nar_emoji64   # only trial.json

Distances use EfficientNet-Lite0 features, which is not the network of FID. Every distance of samples is reported next
to the floor of the tokenizer (reconstructions of real pictures) and of the data (other real pictures), at equal n.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import results_page
import torch
from results_page import ELSEWHERE

from arzoo import data as datasets
from arzoo.base import runtime
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.checkpoints.provenance import provenance, weights_in
from arzoo.core.contracts import Tokenizer
from arzoo.data.base import ImageSet
from arzoo.data.pictures import DataPictures
from arzoo.data.transforms import composite
from arzoo.generation.effort import head_calls
from arzoo.generation.generator import Generator
from arzoo.metrics import reference as references
from arzoo.metrics.bank import PictureFeatures, measure
from arzoo.metrics.cache import measure_once
from arzoo.metrics.comparison import Comparison, figures
from arzoo.metrics.evaluation import RebuiltPictures, evaluate_pictures, evaluate_tokenizer
from arzoo.metrics.protocol import Figure
from arzoo.metrics.record import record
from arzoo.metrics.samples import DrawnPictures, drawn_like, like_rows
from arzoo.models.vision.features import feature_net
from arzoo.samplers.schedules import control_to_data
from arzoo.train.conditions import Captions, Labels, conditions
from arzoo.train.example import TokenLoss, context_of, validation_examples

ROOT = Path(__file__).resolve().parents[2]
DISTANCES = ("fd", "kid", "nearest")
DOCUMENT = ROOT / "docs" / "results.json"


class Reference:
    """Features of the real pictures, computed once.

    Args:
        data: The data set.
        num: Number of training pictures that replace samples in the measurement of floors.
    """

    def __init__(self, data: ImageSet, num: int) -> None:
        self.net = feature_net()
        self.train, self.validation = data.split("train"), data.split("validation")
        rows = like_rows(len(self.train), num)  # the pictures whose classes generators draw
        self.subset = self.train.select(rows)
        self.training = measure_once(DataPictures(self.train), self.net)
        # Floors compare with pictures that are not in the subset, samples with all of them.
        outside = torch.ones(len(self.train), dtype=torch.bool).index_fill(0, rows, False)
        self.floor, self.rest = self.training.select(rows), self.training.select(outside.nonzero()[:, 0])
        self.held_out = measure_once(DataPictures(self.validation), self.net)
        self.named = references.Reference(f"{data.name} train", self.training)

    def scores(self, features: PictureFeatures, train: PictureFeatures | None = None) -> dict[str, Any]:
        """Distances of pictures to the training pictures and, as kernel distance only, to the validation pictures."""
        near, _ = figures(Comparison(self.net, features, train or self.training), DISTANCES, strict=True)
        far, _ = figures(Comparison(self.net, features, self.held_out), ("kid",), strict=True)
        return plain(near) | {f"{name}{ELSEWHERE}": figure for name, figure in plain(far).items()}


def plain(figures: dict[str, Figure]) -> dict[str, Any]:
    """Convert figures to plain data."""
    return {name: figure.to_dict() for name, figure in figures.items()}


@torch.inference_mode()
def measure_tokenizer(tokenizer: Tokenizer, reference: Reference) -> dict[str, Any]:
    """Measure reconstructions of held-out pictures, use of the codebook, and the distance of reconstructions."""
    originals = DataPictures(reference.validation, f"{reference.validation.name} validation")
    evaluation = evaluate_tokenizer(tokenizer, originals, reference.net)
    rebuilt = measure(RebuiltPictures(tokenizer, DataPictures(reference.subset)), reference.net)
    return {
        "validation": plain(evaluation.figures),
        "protocol": evaluation.protocol.to_dict(),
        "sampling": originals.sampling,
        "floor": reference.scores(rebuilt, reference.rest),
    }


@torch.inference_mode()
def validation_loss(model: Generator, data: ImageSet) -> tuple[float, float]:
    """Mean loss per token on real pictures, and its standard error over pictures."""
    losses, data_conditions = [], conditions(data, model.text, 0.0)
    plan = model.plan()
    loss = TokenLoss(model.backbone, model.heads, plan).eval()
    context = context_of(model.backbone, plan, noisy=True)
    for rows in torch.arange(len(data)).split(32):
        values = model.encode(composite(data.pixels(rows))).values
        examples = validation_examples(values, data_conditions.cond(rows), rows, context)
        losses.append(torch.stack([loss(example).mean(1) for example in examples]).mean(0))
    by_picture = torch.cat(losses)
    return float(by_picture.mean()), float(by_picture.std() / len(by_picture) ** 0.5)


def cpu_seconds(model: Generator, data_conditions: Labels | Captions, threads: int) -> float:
    """Seconds to draw a single picture, the median of five."""
    torch.set_num_threads(threads)
    times = []
    for i in range(6):
        started = time.perf_counter()
        model.generate(**data_conditions.request(torch.tensor([i])), seed=i)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[2]


def measure_cost(model: Generator, reference: Reference) -> dict[str, Any]:
    """Kind of loss, calls, and CPU seconds per picture."""
    data_conditions, plan = conditions(reference.subset, model.text, 0.0), model.plan()
    return {
        "loss_of": "code" if model.tokenizer.spec.discrete else type(model.heads[0]).__name__,
        "network_calls": len(plan),
        "head_calls": head_calls(model, plan, model.control, range(len(plan))),
        "seconds_per_picture_1_thread": round(cpu_seconds(model, data_conditions, 1), 3),
        "seconds_per_picture_2_threads": round(cpu_seconds(model, data_conditions, 2), 3),
    }


def measure_generator(name: str, model: Generator, reference: Reference, num: int) -> dict[str, Any]:
    """Measure losses, distances and memorization of a generator with the knobs of its checkpoint."""
    captioned = isinstance(conditions(reference.subset, model.text, 0.0), Captions)
    requests = reference.train.captions if captioned else reference.train.labels
    pictures = DrawnPictures(name, model, *drawn_like(requests, num))
    evaluation = evaluate_pictures(pictures, reference.named, reference.net)
    loss, error = validation_loss(model, reference.validation)
    train_loss, _ = validation_loss(model, reference.subset)
    return {
        "parameters": sum(p.numel() for part in (model.backbone, *model.heads) for p in part.parameters()),
        "validation_loss": round(loss, 4),
        "validation_loss_error": round(error, 4),
        "train_loss": round(train_loss, 4),
        "samples": plain(evaluation.figures) | reference.scores(evaluation.samples),
        "protocol": evaluation.protocol.to_dict(),
        "controls": control_to_data(model.control),
        "sampling": pictures.sampling,
    }


def record_all(results: dict[str, Any]) -> None:
    """Write the figures of the stated protocol into `metrics.json` and the card of every measured checkpoint."""
    for kind, key in (("tokenizers", "validation"), ("generators", "samples")):
        for name, result in results[kind].items():
            facts = {fact: result[fact] for fact in ("protocol", "measured") if fact in result}
            figures = {
                figure: value for figure, value in result[key].items() if not figure.endswith(ELSEWHERE)
            }
            record(open_checkpoint(name), {"figures": figures, **facts})


def hours(training: dict[str, Any]) -> float:
    """Hours of a training run and of those it started from."""
    return training.get("hours", 0) + (hours(training["init"]) if "init" in training else 0)


def trained_on(data: str) -> list[str]:
    """Names of the shipped checkpoints that were trained on a data set; those of clips are for `arzoo evaluate`."""
    return [name for name in bundled() if open_checkpoint(name).index["training"]["recipe"]["data"] == data]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="checkpoints; by default all shipped ones of the data set")
    parser.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    parser.add_argument("--num", type=int, default=1000, help="samples per generator (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="JSON to write (default: %(default)s)")
    arguments = parser.parse_args()
    reference = Reference(datasets.load(arguments.data), arguments.num)
    results: dict[str, Any] = {"protocol": {}, "tokenizers": {}, "generators": {}}
    if arguments.names and arguments.out.exists():
        results = json.loads(arguments.out.read_text())
    results |= {
        "versions": runtime.versions(),
        "hardware": runtime.hardware(),
        "real pictures": reference.scores(reference.floor, reference.rest),
        "held-out pictures": reference.scores(reference.held_out),
    }
    for name in arguments.names or trained_on(arguments.data):
        checkpoint = open_checkpoint(name)
        print(f"measuring {name}", flush=True)
        if checkpoint.kind == "tokenizer":
            tokenizer = checkpoint.load("tokenizer")
            assert isinstance(tokenizer, Tokenizer)
            result = {
                "parameters": sum(p.numel() for p in tokenizer.parameters()),
                **measure_tokenizer(tokenizer, reference),
            }
        else:
            result = measure_generator(name, Generator.load(name), reference, arguments.num)
            results["protocol"] = result["protocol"]
        result["measured"] = provenance(weights_in(checkpoint.index), result.pop("sampling"))
        result["training_hours"] = round(hours(checkpoint.index.get("training", {})), 2)
        results[f"{checkpoint.kind}s"][name] = result
    for name, result in results["generators"].items():
        print(f"timing {name}", flush=True)
        result |= measure_cost(Generator.load(name), reference)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.out}")
    if arguments.out == DOCUMENT:
        record_all(results)
        results_page.main()


if __name__ == "__main__":
    main()
