"""Measure the shipped models and write docs/results.json and docs/results.md.

    python scripts/results.py                                  # all shipped checkpoints
    python scripts/results.py --num 200 --out trial nar_emoji64   # trial.json and trial.md

Distances are taken in EfficientNet-Lite0 features, which is not the network of FID. Beside every distance of
samples stand the
tokenizer's floor (reconstructions of real pictures) and the data's own (real pictures against real
pictures), at equal n.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo import data as datasets
from arzoo import runtime
from arzoo.checkpoint import open_checkpoint
from arzoo.data.base import ImageSet
from arzoo.data.transforms import composite, to_model, to_uint8
from arzoo.generator import Generator
from arzoo.locate import bundled
from arzoo.metrics.codebook import codebook_use
from arzoo.metrics.features import feature_net, features
from arzoo.metrics.frechet import Statistics, frechet_distance
from arzoo.metrics.kernel import kernel_distance
from arzoo.metrics.neighbors import nearest_distance
from arzoo.metrics.protocol import Protocol
from arzoo.metrics.reconstruction import psnr, ssim
from arzoo.tokenizers.base import Tokenizer
from arzoo.tokenizers.perceptual import PerceptualDistance
from arzoo.tokens import Tokens
from arzoo.train.conditions import Captions, Labels, conditions

ROOT = Path(__file__).resolve().parent.parent


class Reference:
    """Features of the real pictures, computed once.

    Args:
        data: The data set.
        num: How many training pictures stand in for samples when the floors are measured.
    """

    def __init__(self, data: ImageSet, num: int) -> None:
        self.train, self.validation = data.split("train"), data.split("validation")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        self.subset = self.train.select(order[:num].sort().values)
        # Floors compare with pictures that are not in the subset, samples with all of them.
        self.rest = features(composite(self.train.select(order[num:]).images))
        self.all = torch.cat([features(composite(self.subset.images)), self.rest])
        self.held_out = features(composite(self.validation.images))

    def scores(self, found: Tensor, train: Tensor | None = None) -> dict[str, Any]:
        """Distances of features to the training and the validation pictures."""
        train = self.all if train is None else train
        net = feature_net().name
        out: dict[str, Any] = {f"fd_{net}": frechet_distance(Statistics.of(found), Statistics.of(train))}
        for name, goal in (("train", train), ("validation", self.held_out)):
            size = min(500, len(goal), len(found))
            value, error = kernel_distance(found, goal, size=size)
            out[f"kid_{net}_{name}"], out[f"kid_{net}_{name}_error"] = 1000 * value, 1000 * error
        return {name: round(value, 3) for name, value in out.items()}

    def protocol(self, num: int) -> Protocol:
        """Words that belong to every distance."""
        net = feature_net()
        return Protocol(
            net=net.name,
            net_sha256=net.sha256,
            resize=net.resize,
            reference=f"{self.train.name} train",
            reference_sha256=self.train.sha256,
            n=num,
            n_reference=len(self.train),
            seeds="sample_seed(0, i)",
            labels="classes or captions of training pictures drawn without replacement, seed 0",
        )


@torch.inference_mode()
def measure_tokenizer(tokenizer: Tokenizer, reference: Reference) -> dict[str, Any]:
    """Reconstruction of held-out pictures, codebook use, and the distance of reconstructions."""
    images = composite(reference.validation.images)
    codes = torch.cat([tokenizer.encode(to_model(chunk)) for chunk in images.split(32)])
    rebuilt = torch.cat([to_uint8(tokenizer.decode(chunk)) for chunk in codes.split(32)])
    distance = PerceptualDistance()
    pairs = zip(rebuilt.split(32), images.split(32), strict=True)
    perceptual = torch.cat([distance(to_model(a), to_model(b)) for a, b in pairs])
    used, perplexity = codebook_use(codes, tokenizer.spec.vocab)
    again = [
        to_uint8(tokenizer.decode(tokenizer.encode(to_model(c))))
        for c in composite(reference.subset.images).split(32)
    ]
    return {
        "validation_psnr": round(float(psnr(rebuilt, images).mean()), 3),
        "validation_ssim": round(float(ssim(rebuilt, images).mean()), 4),
        "validation_perceptual": round(float(perceptual.mean()), 3),
        "validation_codes_used": used,
        "validation_perplexity": round(perplexity, 1),
        "floor": reference.scores(features(torch.cat(again)), reference.rest),
    }


@torch.inference_mode()
def validation_loss(model: Generator, data: ImageSet) -> tuple[float, float]:
    """Mean loss of a token in nats on real pictures, and its standard error over pictures."""
    losses, told = [], conditions(data, model.text, 0.0)
    for rows in torch.arange(len(data)).split(32):
        values = model.tokenizer.encode(to_model(composite(data.pixels(rows))))
        read = model.backbone.features(Tokens.of(values), told.cond(rows), model.plan())
        losses.append(model.heads[0].loss(read, values).mean(1))
    each = torch.cat(losses)
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def cpu_seconds(model: Generator, told: Labels | Captions, threads: int) -> float:
    """Seconds to draw one picture alone, the median of five."""
    torch.set_num_threads(threads)
    times = []
    for i in range(6):
        started = time.perf_counter()
        model.generate(**told.request(torch.tensor([i])), seed=i)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[2]


def measure_generator(model: Generator, reference: Reference, num: int) -> dict[str, Any]:
    """Losses, distances, memorisation and cost of a generator with the knobs of its checkpoint."""
    subset = reference.subset
    told = conditions(subset, model.text, 0.0)
    images = model.generate(**told.request(torch.arange(min(num, len(subset)))), seed=0, batch=64)
    found = features(images)
    loss, error = validation_loss(model, reference.validation)
    train_loss, _ = validation_loss(model, subset)
    calls = sum(1 for _ in model.stream(told.cond(torch.tensor([0])), [0]))
    return {
        "parameters": sum(p.numel() for part in (model.backbone, *model.heads) for p in part.parameters()),
        "validation_loss": round(loss, 4),
        "validation_loss_error": round(error, 4),
        "train_loss": round(train_loss, 4),
        "samples": reference.scores(found),
        "nearest_training_picture": {
            "samples": round(float(nearest_distance(found, reference.all).median()), 4),
            "held-out pictures": round(
                float(nearest_distance(reference.held_out, reference.all).median()), 4
            ),
        },
        "network_calls": calls,
        "seconds_per_picture_1_thread": round(cpu_seconds(model, told, 1), 3),
        "seconds_per_picture_2_threads": round(cpu_seconds(model, told, 2), 3),
        "controls": {k: v for k, v in vars(model.control).items() if not callable(v)},
    }


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def distances(scores: dict[str, Any]) -> list[str]:
    """Cells of one row of distances."""
    net = feature_net().name
    cells = [f"{scores[f'fd_{net}']:.1f}"]
    for goal in ("train", "validation"):
        name = f"kid_{net}_{goal}"
        cells.append(f"{scores[name]:.1f} ± {scores[f'{name}_error']:.1f}")
    return cells


def markdown(results: dict[str, Any]) -> str:
    """The results as a page."""
    net, protocol = feature_net().name, results["protocol"]
    far = [["real training pictures", *distances(results["real pictures"])]]
    far += [[f"reconstructions by {k}", *distances(v["floor"])] for k, v in results["tokenizers"].items()]
    far += [[f"samples of {k}", *distances(v["samples"])] for k, v in results["generators"].items()]
    made = [
        [k, f"{v['parameters'] / 1e6:.2f}M", v["training_hours"],
         f"{v['validation_loss']:.3f} ± {v['validation_loss_error']:.3f}", f"{v['train_loss']:.3f}",
         v["network_calls"], v["seconds_per_picture_1_thread"], v["seconds_per_picture_2_threads"]]
        for k, v in results["generators"].items()
    ]  # fmt: skip
    near = [
        [k, v["nearest_training_picture"]["samples"], v["nearest_training_picture"]["held-out pictures"]]
        for k, v in results["generators"].items()
    ]
    rebuilt = [
        [k, f"{v['parameters'] / 1e6:.2f}M", v["training_hours"], v["validation_psnr"], v["validation_ssim"],
         v["validation_perceptual"], v["validation_codes_used"], v["validation_perplexity"]]
        for k, v in results["tokenizers"].items()
    ]  # fmt: skip
    made_head = ["model", "parameters", "hours (2 cores)", "validation loss", "train loss", "network calls"]
    rebuilt_head = [
        "tokenizer",
        "parameters",
        "hours (2 cores)",
        "PSNR",
        "SSIM",
        "perceptual",
        "codes used",
        "perplexity",
    ]
    return TEXT.format(
        net=net,
        generators=table([*made_head, "s / picture, 1 thread", "2 threads"], made),
        distances=table(["pictures", f"fd_{net}", "KID x 1000, train", "KID x 1000, validation"], far),
        near=table(["model", "samples", "held-out pictures"], near),
        tokenizers=table(rebuilt_head, rebuilt),
        protocol=table(["what", "value"], [[k, v] for k, v in protocol.items()]),
        versions=", ".join(f"{k} {v}" for k, v in results["versions"].items() if v),
    )


TEXT = """# Results

Everything here was written by `python scripts/results.py`, which measures the shipped checkpoints;
`docs/results.json` has all figures. The models were trained by `arzoo train NAME` (recipes in
`train/recipes/`), on the CPU.

## Generators on emoji64

Same tokenizer, data, schedule and steps; the next-neighbor model has one block more behind its first
readout and as many in all. Loss is in nats a token on clean codes of the 170 held-out drawings (± standard
error over pictures). Seconds are the median of five single pictures, decoding included.

{generators}

## Distances

Frechet distance and kernel distance in features of {net}, **not** the network of FID: comparable with
nothing but this table. Lower is better. The first rows are floors: real pictures, and what the tokenizer
makes of them, against the training pictures they are not part of. The validation split is small (170
drawings), so only the kernel distance is given against it.

{distances}

## Is it memory?

Median cosine distance to the nearest training picture in the same features. Samples much closer than held-
out drawings would be copies.

{near}

## Tokenizers

Held-out drawings, clean.

{tokenizers}

## Protocol

{protocol}

Versions: {versions}.
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="checkpoints; all shipped ones by default")
    parser.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    parser.add_argument("--num", type=int, default=1000, help="samples a generator (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results", help="files to write, no suffix"
    )
    arguments = parser.parse_args()
    reference = Reference(datasets.load(arguments.data), arguments.num)
    real = reference.scores(features(composite(reference.subset.images)), reference.rest)
    results: dict[str, Any] = {
        "protocol": reference.protocol(arguments.num).to_dict(),
        "versions": runtime.versions(),
        "real pictures": real,
        "tokenizers": {},
        "generators": {},
    }
    for name in arguments.names or bundled():
        checkpoint = open_checkpoint(name)
        print(f"measuring {name}", flush=True)
        if checkpoint.kind == "tokenizer":
            tokenizer = checkpoint.load("tokenizer")
            assert isinstance(tokenizer, Tokenizer)
            found = {
                "parameters": sum(p.numel() for p in tokenizer.parameters()),
                **measure_tokenizer(tokenizer, reference),
            }
        else:
            found = measure_generator(Generator.load(name), reference, arguments.num)
        training = checkpoint.index.get("training", {})
        found["training_hours"] = training.get("hours")
        results[f"{checkpoint.kind}s"][name] = found
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    arguments.out.with_suffix(".md").write_text(markdown(results))
    print(f"wrote {arguments.out}.json and .md")


if __name__ == "__main__":
    main()
