#!/usr/bin/env bash
# `datasets` stores a Pillow picture that knows its file by the file's path, so what was changed in place is lost: also in `map`.
# Guess: the picture handed over is the picture stored.
# Matters to: preparation by `thumbnail`, `paste`, `putalpha` or ImageDraw: the data set holds the untouched originals.
# Methods that return a new picture (`resize`, `rotate`) are stored as expected.
source "$(dirname "$0")/environment.sh" datasets==5.2.0 pillow==13.0.0
python - <<'PY'
import datasets
from PIL import Image

datasets.disable_progress_bars()
Image.new("RGB", (80, 100), "white").save("a.png")
features = datasets.Features({"image": datasets.Image()})

shrunk = Image.open("a.png")
shrunk.thumbnail((32, 32))
stored = datasets.Dataset.from_dict({"image": [shrunk]}, features=features)[0]["image"]
print(f"thumbnail: handed over {shrunk.size}, stored {stored.size}")

painted = Image.open("a.png")
painted.paste((255, 0, 0), (0, 0, 50, 50))
pixel = datasets.Dataset.from_dict({"image": [painted]}, features=features)[0]["image"].getpixel((10, 10))
print(f"paste: handed over {painted.getpixel((10, 10))}, stored {pixel}")


def shrink(row):
    row["image"].thumbnail((32, 32))
    return row


mapped = datasets.Dataset.from_dict({"image": ["a.png"]}, features=features).map(shrink)[0]["image"]
turned = datasets.Dataset.from_dict({"image": ["a.png"]}, features=features).map(lambda row: {"image": row["image"].resize((8, 8))})
print(f"map with thumbnail: {mapped.size}; map with resize: {turned[0]['image'].size}")
assert stored.size == mapped.size == (80, 100), "changes in place are stored now"
assert pixel == (255, 255, 255)
assert turned[0]["image"].size == (8, 8)
PY
