"""Draw the clips of the tutorial docs/video.md: twelve clips each of a bouncing ball and of a turning square.

    python scripts/dev/own_clips.py my_clips

Everything follows from the seed, so the same command draws the same frames. Writing mp4 needs the extra `video`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from arzoo.viz.clips import write_clip

SIDE, FINER, FRAMES, FPS = 64, 4, 34, 8
"""Side of a frame, how much larger it is drawn before it is reduced, and the length of a clip: two of 17 frames."""
COUNT = 12
INKS = ["#b3261e", "#1f5fae", "#1c7c4a", "#6a3d9a", "#222222"]
PAPERS = ["#fff4d6", "#dcecf7", "#e6f2dc", "#f6e0e6", "#ececec"]

Frame = Callable[[ImageDraw.ImageDraw, float], None]


def bouncing(rng: random.Random, side: int, ink: str) -> Frame:
    """A ball that bounces on the ground while it moves from one side to the other and back."""
    radius, height = side * rng.uniform(0.09, 0.14), side * rng.uniform(0.45, 0.7)
    start, speed, phase = rng.random(), rng.uniform(0.15, 0.3), rng.random()

    def draw_one(draw: ImageDraw.ImageDraw, seconds: float) -> None:
        share = abs((start + speed * seconds) % 2 - 1)
        x = radius + share * (side - 2 * radius)
        y = side * 0.9 - radius - height * abs(math.sin(math.pi * (phase + seconds)))
        draw.rectangle((0, side * 0.9, side, side), fill="#8a8a8a")
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)

    return draw_one


def turning(rng: random.Random, side: int, ink: str) -> Frame:
    """A square that turns around its center."""
    radius, speed, start = (
        side * rng.uniform(0.25, 0.4),
        rng.choice([-1, 1]) * rng.uniform(45, 90),
        rng.random(),
    )
    x, y = (side * rng.uniform(0.4, 0.6) for _ in range(2))

    def draw_one(draw: ImageDraw.ImageDraw, seconds: float) -> None:
        draw.regular_polygon((x, y, radius), 4, rotation=360 * start + speed * seconds, fill=ink)

    return draw_one


CLASSES: dict[str, Callable[[random.Random, int, str], Frame]] = {"bouncing": bouncing, "turning": turning}


def clip(name: str, rng: random.Random) -> np.ndarray:
    """One clip (T, H, W, 3) uint8 of a class."""
    paper = rng.choice(PAPERS)
    draw_one = CLASSES[name](rng, SIDE * FINER, rng.choice(INKS))
    frames = []
    for number in range(FRAMES):
        frame = Image.new("RGB", (SIDE * FINER, SIDE * FINER), paper)
        draw_one(ImageDraw.Draw(frame), number / FPS)
        frames.append(np.asarray(frame.reduce(FINER)))
    return np.stack(frames)


def write(folder: Path, seed: int = 0, count: int = COUNT, suffix: str = ".mp4") -> None:
    """Write `count` clips of each class, one sub-folder per class."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng = random.Random(f"{seed} {name}")
        for number in range(count):
            write_clip(folder / name / f"{number:02d}{suffix}", clip(name, rng), fps=FPS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for the classes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.folder, options.seed)
    print(f"{COUNT} clips each of {', '.join(CLASSES)} in {options.folder}")
