"""Redraw the pictures of the README: samples of the shipped generators, reconstructions of the tokenizers.

python scripts/dev/gallery.py                # all
python scripts/dev/gallery.py xar_emoji64    # one generator
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from arzoo import data as datasets
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import composite
from arzoo.metrics.rate import Rate
from arzoo.metrics.strips import rebuild
from arzoo.viz.grid import contact_sheet

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
CLASSES = (
    "face-smiling/openmoji", "face-smiling/twemoji", "person-role/twemoji", "person-role/openmoji",
    "cat-face/twemoji", "cat-face/openmoji", "heart/twemoji", "time/twemoji", "transport-ground/openmoji",
    "place-building/openmoji", "country-flag/twemoji", "food-fruit/openmoji",
)  # fmt: skip
PROMPTS = (
    "red heart", "tree", "clock", "grinning face", "automobile", "cat face", "fish", "man", "house",
    "flag: France", "apple", "hand",
)  # fmt: skip


def samples(name: str) -> None:
    """Save the grid of one `arzoo generate` with seed 1: four pictures of each class, or one of each prompt."""
    text = open_checkpoint(name).index.get("text")
    request = ["--prompt", *PROMPTS, "--num", "12"] if text else ["--class", *CLASSES, "--num", "48"]
    with tempfile.TemporaryDirectory() as folder:
        command = ["arzoo", "generate", name, *request, "--seed", "1", "--out", folder, "--overwrite"]
        subprocess.run(command, check=True)
        shutil.move(Path(folder, "grid.png"), IMAGES / f"{name}.png")


@torch.inference_mode()
def reconstructions(names: list[str]) -> None:
    """Save held-out drawings in the first row and the reconstructions of each tokenizer in a further row."""
    data = datasets.load("emoji64").split("validation")
    images = composite(data.pixels(torch.arange(0, len(data), len(data) // 16)[:16]))
    rows = [images]
    for name in names:
        tokenizer = open_checkpoint(name).load("tokenizer")
        assert isinstance(tokenizer, Tokenizer)
        rows.append(rebuild(tokenizer, images, Rate())[0])
    contact_sheet(torch.cat(rows), columns=16, zoom=1).save(IMAGES / "tokenizers.png", optimize=True)


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="generators; by default all, and the tokenizers")
    names = parser.parse_args().names
    kinds = {name: open_checkpoint(name).kind for name in names or bundled()}
    for name, kind in kinds.items():
        if kind == "generator":
            samples(name)
    if not names:
        reconstructions([name for name, kind in kinds.items() if kind == "tokenizer"])


if __name__ == "__main__":
    main()
