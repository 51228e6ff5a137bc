"""Draw the pictures of the tutorial docs/own-pictures.md: forty drawings each of letters, stripes and shapes.

    python scripts/dev/own_drawings.py my_pictures

Everything follows from the seed, so the same command draws the same pictures.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, FINER = 96, 4
"""Side of a picture, and how much larger it is drawn before it is reduced, for smooth edges."""
COUNT = 40
LETTERS = "AFKRS"
INKS = ["#b3261e", "#1f5fae", "#1c7c4a", "#6a3d9a", "#222222"]
PAPERS = ["#fff4d6", "#dcecf7", "#e6f2dc", "#f6e0e6", "#ececec"]


def letter(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, ink: str) -> None:
    """Draw a capital letter near the middle."""
    font = ImageFont.load_default(side * rng.uniform(0.7, 0.85))
    place = [side * rng.uniform(0.46, 0.54) for _ in range(2)]
    draw.text(
        (place[0], place[1]), rng.choice(LETTERS), fill=ink, font=font, anchor="mm", stroke_width=side // 60
    )


def stripes(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, ink: str) -> None:
    """Draw upright, level or slanted stripes of one width over the whole picture."""
    width, slant = side * rng.uniform(0.08, 0.13), rng.choice(["upright", "level", "slanted"])
    start = rng.uniform(0, 2 * width)
    for number in range(-math.ceil(side / width), math.ceil(side / width)):
        low, high = start + 2 * number * width, start + (2 * number + 1) * width
        if slant == "level":
            draw.rectangle((0, low, side, high), fill=ink)
        else:
            lean = side if slant == "slanted" else 0
            draw.polygon([(low, 0), (high, 0), (high + lean, side), (low + lean, side)], fill=ink)


def shape(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, ink: str) -> None:
    """Draw a disc, a ring, a triangle, a square or a star near the middle."""
    x, y = (side * rng.uniform(0.44, 0.56) for _ in range(2))
    radius = side * rng.uniform(0.3, 0.38)
    box, kind = (
        (x - radius, y - radius, x + radius, y + radius),
        rng.choice(["disc", "ring", "3", "4", "star"]),
    )
    if kind == "disc":
        draw.ellipse(box, fill=ink)
    elif kind == "ring":
        draw.ellipse(box, outline=ink, width=round(radius * 0.4))
    elif kind == "star":
        radii = [radius, radius * 0.42] * 5
        turns = [math.pi * (number / 5 - 0.5) for number in range(10)]
        draw.polygon(
            [(x + r * math.cos(t), y + r * math.sin(t)) for r, t in zip(radii, turns, strict=True)], fill=ink
        )
    else:
        draw.regular_polygon((x, y, radius), int(kind), fill=ink)


CLASSES: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, int, str], None]] = {
    "letters": letter,
    "stripes": stripes,
    "shapes": shape,
}


def write(folder: Path, seed: int = 0, count: int = COUNT) -> None:
    """Write `count` drawings of each class, one sub-folder per class."""
    for name, draw_one in CLASSES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng = random.Random(f"{seed} {name}")
        for number in range(count):
            picture = Image.new("RGB", (SIDE * FINER, SIDE * FINER), rng.choice(PAPERS))
            draw_one(ImageDraw.Draw(picture), rng, SIDE * FINER, rng.choice(INKS))
            picture.reduce(FINER).save(folder / name / f"{number:02d}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for the classes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.folder, options.seed)
    print(f"{COUNT} drawings each of {', '.join(CLASSES)} in {options.folder}")
