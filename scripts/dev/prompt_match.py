"""Measure how often the pictures of a text model match their prompts.

    python scripts/dev/prompt_match.py nar_emoji64_text                        # the 85 held-out captions
    python scripts/dev/prompt_match.py runs/mine --split train --num 200 --out out/match.json

Draws one picture per caption and ranks the correct caption among all captions with the image-text verifier. For
comparison it does the same with shuffled prompts (the caption of another picture counts as correct), which is chance,
and with real drawings, which is the best this verifier can reach. Prints one line of a Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo import data as datasets
from arzoo.base import runtime
from arzoo.checkpoints.folder import weights_sha256
from arzoo.data.base import ImageSet
from arzoo.data.transforms import composite
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import with_style
from arzoo.generation.verifiers.image_text import ImageText
from arzoo.metrics.agreement import different_captions
from arzoo.metrics.scores.retrieval import derangement, mean_and_error, ranks, recall
from arzoo.samplers.schedules import control_to_data
from arzoo.samplers.verifiers.base import Subject

RANKS = (1, 5, 10)


def measure(similarity: Tensor, right: Tensor) -> dict[str, dict[str, float]]:
    """Recall, mean rank and mean score of pictures whose correct texts are `right`, with bootstrap errors."""
    rank = ranks(similarity, right)
    values = {f"R@{k}": recall(rank, k) for k in RANKS} | {"mean rank": rank}
    values["score"] = similarity.gather(1, right[:, None])[:, 0]
    figures = {name: mean_and_error(value) for name, value in values.items()}
    return {
        name: {"value": round(mean, 4), "error": round(error, 4)} for name, (mean, error) in figures.items()
    }


def match(
    model: Generator, verifier: Any, data: ImageSet, num: int, seed: int, style: str = "", batch: int = 32
) -> dict[str, Any]:
    """Draw one picture per caption and measure how well they match.

    Args:
        model: A text-conditional generator.
        verifier: An object with `similarity(images, captions)`.
        data: Data set with captions and real drawings.
        num: Number of captions, 0 for all.
        seed: Seed of the choice of captions, of the pictures and of the shuffled pairs.
        style: Style named in the prompts if given; the verifier never gets it.
        batch: Pictures drawn at once.

    Returns:
        Figures of "prompts", "shuffled prompts" and "real drawings".
    """
    rows = different_captions(data, num, seed)
    captions = [str(caption) for caption in data.select(rows).captions or ()]
    pictures = model.generate(prompts=[with_style(c, style) for c in captions], seed=seed, batch=batch).stills
    drawn = verifier.similarity(pictures, captions)
    real = verifier.similarity(composite(data.pixels(rows)), captions)
    own = torch.arange(len(captions))
    return {
        "n": len(captions),
        "prompts": measure(drawn, own),
        "shuffled prompts": measure(drawn, derangement(len(captions), seed)),
        "real drawings": measure(real, own),
    }


def markdown(name: str, split: str, results: dict[str, Any]) -> str:
    """One line of a table: model, captions, and a triple (prompts / shuffled / real drawings) per figure."""
    cells = [name, f"{results['n']} {split}"]
    for figure in (*(f"R@{k}" for k in RANKS), "mean rank", "score"):
        triple = (results[kind][figure] for kind in ("prompts", "shuffled prompts", "real drawings"))
        cells.append(" / ".join(f"{x['value']:.3g} ± {x['error']:.2g}" for x in triple))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Draw, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a text-conditional checkpoint or run")
    parser.add_argument("--data", default="emoji64", help="data set with captions (default: %(default)s)")
    parser.add_argument("--split", default="validation", choices=["train", "validation"])
    parser.add_argument("--num", type=int, default=0, help="captions, 0 for all (default)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--style", default="", help="named in every prompt, such as twemoji")
    parser.add_argument("--verifier-seed", type=int, default=1, help="searches use 0 (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="pictures at once (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 leaves them as they are")
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    runtime.set_threads(arguments.threads)
    model = Generator.load(arguments.model)
    data = datasets.load(arguments.data).split(arguments.split)
    verifier = ImageText(Subject(), data=arguments.data, seed=arguments.verifier_seed)
    results = match(model, verifier, data, arguments.num, arguments.seed, arguments.style, arguments.batch)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "threads")}
    controls = control_to_data(model.control)
    protocol = settings | {
        "controls": controls,
        "weights": weights_sha256(model.backbone),
        "text_encoder": model.text.sha256,
        "data_sha256": data.sha256,
    }
    document = {"protocol": protocol, **results}
    document["versions"] = runtime.versions()
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")
    print("| model | captions | R@1 | R@5 | R@10 | mean rank | score |\n|---|---|---|---|---|---|---|")
    print(markdown(arguments.model, arguments.split, results))


if __name__ == "__main__":
    main()
