#!/usr/bin/env bash
# timm numbers the class folders of a data set in natural order (2 before 10), torchvision and datasets by the alphabet.
# Guess: the same folder has the same class numbers in all three.
# Matters to: class-conditional models and classifiers that judge them: with folders 0 to 999 nearly every label differs,
# accuracy and class-wise scores come out at chance and nothing complains.
source "$(dirname "$0")/environment.sh" timm==1.0.31 torchvision==0.29.1 torch==2.14.1 datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
python - <<'PY'
from pathlib import Path

import datasets
from PIL import Image
from timm.data.readers import create_reader
from torchvision.datasets import ImageFolder

datasets.disable_progress_bars()
for name in range(1000):
    (Path("data") / str(name)).mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(Path("data") / str(name) / "a.png")
timm, torchvision = create_reader("", "data").class_to_idx, ImageFolder("data").class_to_idx
names = datasets.load_dataset("imagefolder", data_dir="data", split="train").features["label"].names
hugging = {name: number for number, name in enumerate(names)}
for name in ("2", "10", "999"):
    print(f"folder {name}: timm {timm[name]}, torchvision {torchvision[name]}, datasets {hugging[name]}")
other = sum(timm[name] != torchvision[name] for name in timm)
print(f"of {len(timm)} classes {other} have another number in timm")
assert torchvision == hugging
assert other > 900, "timm numbers classes as the others do now"
PY
