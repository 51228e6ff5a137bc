"""Measure what each format of clips loses, and how large its files are: the table of docs/video.md.

python scripts/dev/clip_formats.py    # a clip of every game of atari_clips
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from arzoo import data as datasets
from arzoo.base.console import table
from arzoo.viz.clips import FORMATS, clip_files, write_clip, write_h264

FPS = 10  # GIF counts hundredths of a second


def of_video(file: Path, height: int) -> np.ndarray:
    """Frames (T, H, W, 3) of an mp4; of one of twice the height, means of 2 x 2 pixels."""
    with av.open(str(file)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(
            float
        )
    side = frames.shape[1] // height
    return frames.reshape(len(frames), height, side, -1, side, 3).mean((2, 4))


def of_animation(file: Path) -> list[np.ndarray]:
    """Frames of a WebP or GIF, or of a PNG; those that are shown longer come several times."""
    frames = []
    with Image.open(file) as image:
        for t in range(getattr(image, "n_frames", 1)):
            image.seek(t)
            pixels = np.asarray(image.convert("RGB"))
            frames += [pixels] * max(1, round(image.info.get("duration", 0) * FPS / 1000))
    return frames


def write_own_size(path: Path, clip: np.ndarray) -> None:
    """Write 4:2:0 in the size of the clip, as is usual."""
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in clip]
    frames = [frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1) for frame in frames]
    write_h264(path, frames, Fraction(FPS), {})


def losses(clip: np.ndarray, folder: Path) -> dict[str, tuple[float, int]]:
    """PSNR in dB and bytes of a clip by format."""
    results = {}
    for name in ("4:2:0, own size", *FORMATS):
        if name in FORMATS:
            files = [folder / file for file in clip_files(name, name, len(clip))]
            write_clip(files[0] if FORMATS[name].suffix else files[0].parent, clip, FPS, format=name)
        else:
            files = [folder / "own.mp4"]
            write_own_size(files[0], clip)
        if files[0].suffix == ".mp4":
            back = of_video(files[0], clip.shape[1])
        else:
            back = np.stack([frame for file in files for frame in of_animation(file)])
        if back.shape != clip.shape:  # all frames are equal: a still picture
            back = np.broadcast_to(back, clip.shape)
        error = np.square(back - clip.astype(float)).mean()
        results[name] = (
            10 * np.log10(255**2 / error) if error else np.inf,
            sum(f.stat().st_size for f in files),
        )
    return results


def main() -> None:
    """Print the table."""
    data = datasets.load("atari_clips").split("validation")
    rows = [int((data.labels == label).nonzero()[0]) for label in data.labels.unique()]
    with tempfile.TemporaryDirectory() as folder:
        every = [losses(clip.numpy(), Path(folder)) for clip in data.pixels(torch.tensor(rows))]
    print(f"{len(every)} clips of {data.frames} frames, {data.size[0]} x {data.size[1]}")
    lines = []
    for name in every[0]:
        psnr, sizes = (np.array(column) for column in zip(*(each[name] for each in every), strict=True))
        exact = int(np.isinf(psnr).sum())
        lossy = psnr[np.isfinite(psnr)]
        figures = [f"{value:.1f}" for value in (np.median(lossy), lossy.min())] if len(lossy) else ["", ""]
        lines.append((name, exact, *figures, f"{np.mean(sizes) / 1000:.1f}"))
    print(table(lines, ("format", "exact", "median PSNR of the others", "worst", "kB")))


if __name__ == "__main__":
    main()
