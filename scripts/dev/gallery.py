"""Redraw the pictures of the docs: samples of the shipped generators, reconstructions of the tokenizers.

python scripts/dev/gallery.py                # all
python scripts/dev/gallery.py xar_emoji64    # one generator
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from arzoo import data as datasets
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import composite
from arzoo.generation.generator import Generator
from arzoo.metrics.rate import Rate
from arzoo.metrics.strips import rebuild
from arzoo.viz.clips import tiled, write_clip
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


def moving(names: Sequence[str]) -> None:
    """Save what generators of clips draw of every class: of the first as a GIF, of all as a sheet of frames."""
    models = [Generator.load(name) for name in names]
    clips = [model.generate(list(model.classes), seed=1).tensor for model in models]
    write_clip(IMAGES / f"{names[0]}.gif", tiled(clips[0], columns=6), models[0].fps)
    # A row of the sheet is a class: every fourth frame of each model, side by side.
    frames = torch.cat([each[:, ::4] for each in clips], 1)
    sheet = contact_sheet(frames.flatten(0, 1), columns=frames.shape[1], zoom=1)
    sheet.quantize(256, dither=Image.Dither.NONE).save(IMAGES / "clips.png", optimize=True)


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
    generators = [name for name, kind in kinds.items() if kind == "generator"]
    of_clips = [name for name in generators if Generator.load(name).tokenizer.frames > 1]
    for name in generators:
        if name not in of_clips:
            samples(name)
    if of_clips:
        moving(of_clips)
    if not names:
        tokenizers = [name for name, kind in kinds.items() if kind == "tokenizer"]
        reconstructions([name for name in tokenizers if open_checkpoint(name).load("tokenizer").frames == 1])


if __name__ == "__main__":
    main()
