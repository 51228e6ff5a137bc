#!/usr/bin/env bash
# torchvision's `to_pil_image` and webdataset's picture writer cut floats to whole levels instead of rounding them.
# Guess: a picture that is normalised to [-1, 1], brought back and saved is the picture.
# Matters to: reconstructions and their PSNR and FID: 63 of the 256 levels come back one darker, whatever the network did.
# torchvision's `convert_image_dtype` and `save_image` are right.
source "$(dirname "$0")/environment.sh" torchvision==0.29.1 torch==2.14.1 numpy==2.4.6 pillow==13.0.0 webdataset==1.0.2
python - <<'PY'
import io

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.utils import save_image
from webdataset.writer import imageencoder

levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
picture = F.to_tensor(np.repeat(levels[..., None], 3, 2))
back = F.normalize(picture, [0.5] * 3, [0.5] * 3) * 0.5 + 0.5


def saved(write):
    file = io.BytesIO()
    write(file)
    return np.asarray(Image.open(file))[..., 0].astype(int) - levels


changes = {
    "to_pil_image": saved(lambda f: F.to_pil_image(back).save(f, "PNG")),
    "webdataset png": saved(lambda f: f.write(imageencoder(back.permute(1, 2, 0).numpy(), "png"))),
    "convert_image_dtype": saved(lambda f: F.to_pil_image(F.convert_image_dtype(back, torch.uint8)).save(f, "PNG")),
    "save_image": saved(lambda f: save_image(back, f, format="PNG")),
}
for name, change in changes.items():
    print(f"{name}: {(change != 0).sum()} of 256 levels changed, from {change.min()} to {change.max()}")
wrong = {name: int((change != 0).sum()) for name, change in changes.items()}
assert wrong == {"to_pil_image": 63, "webdataset png": 63, "convert_image_dtype": 0, "save_image": 0}, wrong
PY
