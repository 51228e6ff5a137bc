#!/usr/bin/env bash
# A palette picture (PNG, GIF: pixel art, icons, emoji) becomes a grey picture of its palette's entry numbers in torchvision's
# to_tensor, pil_to_tensor and to_image and in the tensor formats of datasets; no warning.
# Guess: they give its colours, or refuse it.
# Matters to: data of such files: a model learns meaningless nearly black pictures, where entry 0 and 1 differ by 1/255.
source "$(dirname "$0")/environment.sh" torchvision==0.29.1 torch==2.14.1 datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
python - <<'PY'
import datasets
from PIL import Image
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

datasets.disable_progress_bars()
picture = Image.new("RGB", (8, 8), "red")
picture.paste("green", (4, 0, 8, 8))
picture.quantize(2).save("a.png")
rows = datasets.Dataset.from_dict({"image": ["a.png"]}).cast_column("image", datasets.Image())
with Image.open("a.png") as opened:
    read = {"to_tensor": v1.to_tensor(opened), "pil_to_tensor": v2.pil_to_tensor(opened), "to_image": v2.to_image(opened)}
read["datasets"] = rows.with_format("torch")[0]["image"]
read["datasets, mode RGB"] = rows.cast_column("image", datasets.Image(mode="RGB")).with_format("torch")[0]["image"]
for name, tensor in read.items():
    print(f"{name}: shape {tuple(tensor.shape)}, values {[round(v, 4) for v in tensor.unique().tolist()]}")
assert {name: len(tensor) for name, tensor in read.items()} == {
    "to_tensor": 1, "pil_to_tensor": 1, "to_image": 1, "datasets": 1, "datasets, mode RGB": 3
}, "colours are read now"
assert all(tensor.max() <= 1 for name, tensor in read.items() if "mode" not in name)
PY
