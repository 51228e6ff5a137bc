"""Measure the shipped models and write docs/results.json and docs/results.md, and the figures into their metrics.json.

    python scripts/results.py                                  # all shipped checkpoints
    python scripts/results.py --num 200 --out trial nar_emoji64   # trial.json and trial.md alone

Distances are taken in EfficientNet-Lite0 features, which is not the network of FID. Beside every distance of samples
stand the tokenizer's floor (reconstructions of real pictures) and the data's own (real pictures against real pictures),
at equal n.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from arzoo import data as datasets
from arzoo import runtime
from arzoo.checkpoint import open_checkpoint
from arzoo.data.base import ImageSet
from arzoo.data.transforms import composite
from arzoo.generator import Generator
from arzoo.locate import bundled
from arzoo.metrics import reference as references
from arzoo.metrics.bank import Measured, measure
from arzoo.metrics.cache import measure_once
from arzoo.metrics.comparison import Comparison, figures
from arzoo.metrics.drawn import DrawnPictures, drawn_like, like_rows
from arzoo.metrics.evaluation import RebuiltPictures, evaluate_pictures, evaluate_tokenizer
from arzoo.metrics.features import feature_net
from arzoo.metrics.pictures import DataPictures
from arzoo.metrics.protocol import Figure
from arzoo.metrics.record import record
from arzoo.tokenizers.base import Tokenizer
from arzoo.train.conditions import Captions, Labels, conditions
from arzoo.train.example import TokenLoss, context_of, measured

ROOT = Path(__file__).resolve().parent.parent
DISTANCES = ("fd", "kid", "nearest")
ELSEWHERE = "_validation"
"""End of the names of figures against the validation pictures, which the protocol of samples does not name."""
DOCUMENTS = ROOT / "docs" / "results"
SPREAD = ("precision_k3", "recall_k3", "density_k5", "coverage_k5", "is")


class Reference:
    """Features of the real pictures, computed once.

    Args:
        data: The data set.
        num: How many training pictures stand in for samples when the floors are measured.
    """

    def __init__(self, data: ImageSet, num: int) -> None:
        self.net = feature_net()
        self.train, self.validation = data.split("train"), data.split("validation")
        rows = like_rows(len(self.train), num)  # the pictures whose classes generators draw
        self.subset = self.train.select(rows)
        self.whole = measure_once(DataPictures(self.train), self.net)
        # Floors compare with pictures that are not in the subset, samples with all of them.
        others = torch.ones(len(self.train), dtype=torch.bool).index_fill(0, rows, False)
        self.floor, self.rest = self.whole.select(rows), self.whole.select(others.nonzero()[:, 0])
        self.held_out = measure_once(DataPictures(self.validation), self.net)
        self.named = references.Reference(f"{data.name} train", self.whole)

    def scores(self, found: Measured, train: Measured | None = None) -> dict[str, Any]:
        """Distances of a set to the training and, the kernel distance only, to the validation pictures."""
        near, _ = figures(Comparison(self.net, found, train or self.whole), DISTANCES, strict=True)
        far, _ = figures(Comparison(self.net, found, self.held_out), ("kid",), strict=True)
        return plain(near) | {f"{name}{ELSEWHERE}": figure for name, figure in plain(far).items()}


def plain(found: dict[str, Figure]) -> dict[str, Any]:
    """Figures as plain data."""
    return {name: figure.to_dict() for name, figure in found.items()}


@torch.inference_mode()
def measure_tokenizer(tokenizer: Tokenizer, reference: Reference) -> dict[str, Any]:
    """Reconstruction of held-out pictures, codebook use, and the distance of reconstructions."""
    originals = DataPictures(reference.validation, f"{reference.validation.name} validation")
    evaluation = evaluate_tokenizer(tokenizer, originals, reference.net)
    again = measure(RebuiltPictures(tokenizer, DataPictures(reference.subset)), reference.net)
    return {
        "validation": plain(evaluation.figures),
        "protocol": evaluation.protocol.to_dict(),
        "floor": reference.scores(again, reference.rest),
    }


@torch.inference_mode()
def validation_loss(model: Generator, data: ImageSet) -> tuple[float, float]:
    """Mean loss of a token on real pictures, and its standard error over pictures."""
    losses, told = [], conditions(data, model.text, 0.0)
    plan = model.plan()
    loss = TokenLoss(model.backbone, model.heads, plan).eval()
    context = context_of(model.backbone, plan, noisy=True)
    for rows in torch.arange(len(data)).split(32):
        values = model.encode(composite(data.pixels(rows)))
        examples = measured(values, told.cond(rows), rows, context)
        losses.append(torch.stack([loss(example).mean(1) for example in examples]).mean(0))
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


def measure_generator(name: str, model: Generator, reference: Reference, num: int) -> dict[str, Any]:
    """Losses, distances, memorisation and cost of a generator with the knobs of its checkpoint."""
    told = conditions(reference.subset, model.text, 0.0)
    asked = reference.train.captions if isinstance(told, Captions) else reference.train.labels
    pictures = DrawnPictures(name, model, *drawn_like(asked, num))
    evaluation = evaluate_pictures(pictures, reference.named, reference.net)
    loss, error = validation_loss(model, reference.validation)
    train_loss, _ = validation_loss(model, reference.subset)
    calls = sum(1 for _ in model.stream(told.cond(torch.tensor([0])), [0]))
    return {
        "parameters": sum(p.numel() for part in (model.backbone, *model.heads) for p in part.parameters()),
        "validation_loss": round(loss, 4),
        "validation_loss_error": round(error, 4),
        "train_loss": round(train_loss, 4),
        "samples": plain(evaluation.figures) | reference.scores(evaluation.samples),
        "protocol": evaluation.protocol.to_dict(),
        "network_calls": calls,
        "seconds_per_picture_1_thread": round(cpu_seconds(model, told, 1), 3),
        "seconds_per_picture_2_threads": round(cpu_seconds(model, told, 2), 3),
        "controls": model.control.to_dict(),
    }


def record_all(results: dict[str, Any]) -> None:
    """Write the figures that have the stated protocol into `metrics.json` and the card of every measured checkpoint."""
    measured = {name: found["validation"] for name, found in results["tokenizers"].items()}
    measured |= {name: found["samples"] for name, found in results["generators"].items()}
    for name, made in measured.items():
        protocol = (results["tokenizers"].get(name) or results["generators"][name])["protocol"]
        figures = {key: figure for key, figure in made.items() if not key.endswith(ELSEWHERE)}
        record(open_checkpoint(name), {"figures": figures, "protocol": protocol})


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def distances(scores: dict[str, Any]) -> list[str]:
    """Cells of one row of distances."""
    net = feature_net().name
    cells = [shown(scores[f"fd_{net}"], 1)]
    return cells + [shown(scores[f"kid_{net}{goal}"], 1, 1000) for goal in ("", ELSEWHERE)]


def shown(figure: dict[str, Any], digits: int, times: float = 1) -> str:
    """A figure with its standard error."""
    return f"{figure['value'] * times:.{digits}f} ± {figure['error'] * times:.{digits}f}"


def rebuilt_cells(found: dict[str, Any], net: str) -> list[str]:
    """Cells of one tokenizer; those of a codebook are empty when it has none."""
    perceptual = next(figure for name, figure in found.items() if name.startswith("perceptual"))
    cells = [
        shown(found["psnr"], 2),
        shown(found["ssim"], 3),
        shown(perceptual, 2),
        shown(found[f"rfd_{net}"], 1),
    ]
    return cells + [
        f"{found[name]['value']:g}" if name in found else "" for name in ("codes_used", "codebook_perplexity")
    ]


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
    copied = {"held-out pictures": results["held-out pictures"]}
    copied |= {f"samples of {k}": v["samples"] for k, v in results["generators"].items()}
    near = [[name, shown(scores[f"nearest_{net}"], 4)] for name, scores in copied.items()]
    spread = [
        [k, *(shown(v["samples"][f"{name}_{net}"], 3) for name in SPREAD)]
        for k, v in results["generators"].items()
    ]
    rebuilt = [
        [k, f"{v['parameters'] / 1e6:.2f}M", v["training_hours"], *rebuilt_cells(v["validation"], net)]
        for k, v in results["tokenizers"].items()
    ]
    made_head = ["model", "parameters", "hours", "validation loss", "train loss", "network calls"]
    rebuilt_head = [
        "tokenizer",
        "parameters",
        "hours",
        "PSNR",
        "SSIM",
        "perceptual",
        f"rfd_{net}",
        "codes used",
        "perplexity",
    ]
    return TEXT.format(
        net=net,
        generators=table([*made_head, "s / picture, 1 thread", "2 threads"], made),
        distances=table(["pictures", f"fd_{net}", "KID x 1000, train", "KID x 1000, validation"], far),
        near=table(["pictures", "distance"], near),
        spread=table(["model", *(name.replace("_", " ") for name in SPREAD)], spread),
        tokenizers=table(rebuilt_head, rebuilt),
        protocol=table(["what", "value"], [[k, v] for k, v in protocol.items()]),
        versions=", ".join(f"{k} {v}" for k, v in results["versions"].items() if v),
    )


TEXT = """# Results

Everything here was written by `python scripts/results.py`, which measures the shipped checkpoints;
`docs/results.json` has all figures; `arzoo evaluate NAME` measures a checkpoint again in the same way. The
models were trained by `arzoo train NAME` (recipes in `train/recipes/`), on the CPU.

## Generators on emoji64

Same tokenizer, data and number of blocks. `nar_emoji64` and `raster_emoji64` went through two stages: 5600
steps in next-neighbor order (shared by both), then 1600 steps each in their own order, with the same settings;
`nar_emoji64_text` took 2200 steps from the blocks of `nar_emoji64`. Loss is in nats a token on clean codes of
the 170 held-out drawings (± standard error over pictures). Seconds are the median of five single pictures,
decoding included. Hours are wall time, of the last two stages, on two cores or on one thread of a shared
machine.

{generators}

## Distances

Frechet distance and kernel distance in features of {net}, **not** the network of FID: comparable with
nothing but this table. Lower is better. The first rows are floors: real pictures, and what the tokenizer
makes of them, against the training pictures they are not part of. The validation split is small (170
drawings), so only the kernel distance is given against it. Standard errors are those of the bootstrap.

{distances}

How much of the samples is like training pictures, and how much of these the samples are like:

{spread}

## Is it memory?

Median cosine distance to the nearest training picture in the same features. Samples much closer than held-out
drawings would be copies.

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
    parser.add_argument("--out", type=Path, default=DOCUMENTS, help="files to write, no suffix")
    arguments = parser.parse_args()
    reference = Reference(datasets.load(arguments.data), arguments.num)
    results: dict[str, Any] = {
        "protocol": {},
        "versions": runtime.versions(),
        "real pictures": reference.scores(reference.floor, reference.rest),
        "held-out pictures": reference.scores(reference.held_out),
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
            found = measure_generator(name, Generator.load(name), reference, arguments.num)
            results["protocol"] = found["protocol"]
        training = checkpoint.index.get("training", {})
        hours = [made.get("hours", 0) for made in (training, training.get("init", {}))]
        found["training_hours"] = round(sum(hours), 2)
        results[f"{checkpoint.kind}s"][name] = found
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    arguments.out.with_suffix(".md").write_text(markdown(results))
    print(f"wrote {arguments.out}.json and .md")
    if arguments.out == DOCUMENTS:
        record_all(results)


if __name__ == "__main__":
    main()
