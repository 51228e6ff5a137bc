#!/usr/bin/env bash
# torchvision resizes the colours of an RGBA tensor without their opacity: hidden colours of transparent pixels bleed into edges.
# Guess: a tensor is resized as the same Pillow picture is, which weighs colours by opacity.
# Matters to: emoji, icons, sprites, cut-outs: a white disc whose surroundings are transparent black gets a grey rim on white paper.
source "$(dirname "$0")/environment.sh" torchvision==0.29.1 torch==2.14.1 pillow==13.0.0 numpy==2.4.6
python - <<'PY'
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

y, x = np.mgrid[:64, :64]
disc = np.zeros((64, 64, 4), np.uint8)  # transparent, and black where nobody sees it
disc[(y - 32) ** 2 + (x - 32) ** 2 < 400] = 255


def darkest(picture):
    """On white paper, where nothing should be seen."""
    colour, opacity = picture[..., :3].astype(float), picture[..., 3:] / 255
    return (colour * opacity + 255 * (1 - opacity)).min()


pillow = np.asarray(F.resize(Image.fromarray(disc), [16, 16], antialias=True))
tensor = F.resize(torch.from_numpy(disc).permute(2, 0, 1), [16, 16], antialias=True).permute(1, 2, 0).numpy()
print(f"darkest pixel of white on white: Pillow picture {darkest(pillow):.0f}, tensor {darkest(tensor):.0f}")
assert (pillow[..., 3] == tensor[..., 3]).all()
assert darkest(pillow) > 254
assert darkest(tensor) < 230, "tensors are resized with opacity now"
PY
