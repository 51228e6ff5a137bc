"""Measure seams in long clips: those that are tokenized in windows, and those that are drawn window after window.

    python scripts/dev/seams.py nar_atari                       # on held-out clips of atari12_clips, recorded longer
    python scripts/dev/seams.py runs/mine --data my_clips --num 64

Where a tokenizer's windows meet, PSNR of frames and of changes from frame to frame says how a reconstruction differs
from the true clip. A continued clip has no true one: there, `changes` is the size of its own changes, as PSNR between a
frame and the next, beside those of held-out clips. A seam shows where `changes at` is lower than `changes inside`.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.console import table
from arzoo.base.runtime import sample_seed
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import to_model, to_uint8
from arzoo.generation.continuation import extended
from arzoo.generation.generator import Generator
from arzoo.metrics.seams import Seams, seam_psnr
from arzoo.tokenizers.common.windows import decode_windows, encode_windows


def of_windows(tokenizer: Tokenizer, clips: Tensor) -> Seams:
    """Seams of clips (B, T, H, W, 3) uint8 that are encoded and decoded in windows."""
    with torch.inference_mode():
        windows = [encode_windows(tokenizer, to_model(clip[None])) for clip in clips]
        rebuilt = [decode_windows(tokenizer, each, clips.shape[1]) for each in windows]
    return seam_psnr(clips, to_uint8(torch.cat(rebuilt)), tokenizer.frames)


def of_changes(clips: Tensor, overlap: int, window: int) -> Seams:
    """Seams of clips in windows that overlap, seen in their own changes: against a clip that never changes."""
    part = clips[:, overlap:]  # now all windows are as long, as a later one begins behind what it was given
    return seam_psnr(torch.zeros_like(part), part, window - overlap)


def main(arguments: list[str] | None = None) -> None:
    """Print a table with one line for each kind of seam."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a generator of clips; its tokenizer is measured too")
    parser.add_argument(
        "--data", default="atari12_clips", help="clips, of which the validation split is taken"
    )
    parser.add_argument("--num", type=int, default=97, help="number of clips")
    parser.add_argument("--windows", type=int, default=2, help="windows of a clip")
    parser.add_argument(
        "--overlaps", type=int, nargs="*", default=[1, 5], help="frames that a window is given"
    )
    options = parser.parse_args(arguments)
    model = Generator.load(options.model)
    window, (side, _) = model.tokenizer.frames, model.tokenizer.image_size
    held_out = datasets.load(options.data, side, window * options.windows).split("validation")
    rows = torch.linspace(0, len(held_out) - 1, min(options.num, len(held_out))).long()
    clips = held_out.pixels(rows)
    measured = {"windows of the tokenizer": of_windows(model.tokenizer, clips)}
    labels = held_out.labels[rows] if held_out.classes == model.classes else rows % len(model.classes)
    for overlap in options.overlaps:
        frames = window + (options.windows - 1) * (window - overlap)
        seeds = [sample_seed(0, i) for i in range(len(rows))]
        drawn = extended(model, frames, overlap, classes=labels.tolist(), seeds=seeds, batch=16)
        measured[f"drawn, overlap {overlap}"] = of_changes(drawn.tensor, overlap, window)
        measured[f"held out, the same places as {overlap}"] = of_changes(clips[:, :frames], overlap, window)
    print(f"{len(rows)} clips of {held_out.name}, {options.windows} windows of {window} frames; PSNR in dB")
    columns = ("frames_at", "frames_inside", "changes_at", "changes_inside")
    lines = [
        (name, *(f"{getattr(each, c):.2f}" if "windows" in name or "changes" in c else "" for c in columns))
        for name, each in measured.items()
    ]
    print(table(lines, ("seams", *(column.replace("_", " ") for column in columns))))


if __name__ == "__main__":
    main()
