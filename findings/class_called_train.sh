#!/usr/bin/env bash
# `datasets.load_dataset("imagefolder")` takes a class folder called "train" for the split and drops its siblings.
# Guess: three class folders give three classes; COCO, PASCAL VOC and CIFAR-100 have a class "train".
# Matters to: training and references: two thirds of the pictures and all labels are gone without a message. Names of files do
# the same: where one holds the word "test", the others are gone.
source "$(dirname "$0")/environment.sh" datasets==5.2.0 pillow==13.0.0
python - <<'PY'
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def folder(name, files):
    for file in files:
        path = Path(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return {split: (len(rows), sorted(rows.features)) for split, rows in
            datasets.load_dataset("imagefolder", data_dir=name).items()}


ordinary = folder("a", [f"{c}/{i}.png" for c in ("bus", "plane", "tram") for i in range(3)])
train = folder("b", [f"{c}/{i}.png" for c in ("bus", "plane", "train") for i in range(3)])
words = folder("c", [f"{c}/{n}.png" for c in ("bus", "plane") for n in ("1", "2", "crash test")])
print("bus, plane, tram, 3 pictures each: ", ordinary)
print("bus, plane, train, 3 pictures each:", train)
print("bus, plane, pictures 1, 2 and 'crash test' in each:", words)
assert ordinary == {"train": (9, ["image", "label"])}
assert train == {"train": (3, ["image"])}, "the other classes are kept now"
assert words == {"test": (2, ["image", "label"])}, "names of files are no longer splits"
PY
