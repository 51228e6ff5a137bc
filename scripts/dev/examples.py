"""Draw the files that documented commands read: examples/photo.png, a scene, and examples/clip.mp4, a bouncing ball.

python scripts/dev/examples.py
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import own_clips
from PIL import Image, ImageDraw

from arzoo.viz.clips import write_clip

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WIDTH, HEIGHT, FINER = 320, 240, 4


def scene() -> Image.Image:
    """A house and a tree on a hill, below the sun."""
    width, height = WIDTH * FINER, HEIGHT * FINER
    sky = Image.new("RGB", (1, height))
    sky.putdata([(110 + 100 * y // height, 170 + 60 * y // height, 235) for y in range(height)])
    picture = sky.resize((width, height))
    draw = ImageDraw.Draw(picture)

    def place(*shares: float) -> list[float]:
        """Shares of the height, from the middle of the width and from the top, as pixels."""
        return [share * height + (width / 2 if i % 2 == 0 else 0) for i, share in enumerate(shares)]

    draw.ellipse(place(0.22, 0.08, 0.42, 0.28), fill="#ffd54a")
    for x, y in [(-0.45, 0.16), (-0.33, 0.13), (-0.22, 0.17)]:
        draw.ellipse(place(x, y, x + 0.18, y + 0.1), fill="#ffffff")
    for lift, colour in [(0.62, "#8fc47a"), (0.72, "#5f9f4f")]:
        hill = [(x, height * lift + 0.06 * height * math.sin(x / width * 5 + 9 * lift)) for x in range(width)]
        draw.polygon([(0, height), *hill, (width, height)], fill=colour)
    draw.rectangle(place(-0.34, 0.5, 0.02, 0.8), fill="#e9d8b4")
    draw.polygon(place(-0.4, 0.5, -0.16, 0.3, 0.08, 0.5), fill="#b0432f")
    draw.rectangle(place(-0.2, 0.62, -0.1, 0.8), fill="#6b4226")
    for x in (-0.3, -0.06):
        draw.rectangle(place(x, 0.56, x + 0.06, 0.64), fill="#7fb4d9", outline="#ffffff", width=2 * FINER)
    draw.rectangle(place(0.25, 0.55, 0.3, 0.82), fill="#6b4226")
    for x, y in [(0.27, 0.4), (0.18, 0.48), (0.36, 0.48), (0.22, 0.36), (0.33, 0.37)]:
        draw.ellipse(place(x - 0.1, y - 0.09, x + 0.1, y + 0.09), fill="#2f7d3a")
    return picture.reduce(FINER)


if __name__ == "__main__":
    scene().quantize(128).save(EXAMPLES / "photo.png", optimize=True)
    write_clip(EXAMPLES / "clip.mp4", own_clips.clip("bouncing", random.Random(7)), fps=own_clips.FPS)
    for name in ("photo.png", "clip.mp4"):
        print(f"{name}: {(EXAMPLES / name).stat().st_size / 1000:.1f} kB")
