#!/usr/bin/env bash
# diffusers' VaeImageProcessor.preprocess decides by the values of a picture what it means: a tensor in [-1, 1] without a negative
# value counts as [0, 1] and is normalised again, and 8-bit arrays are not scaled at all: 255 becomes 509. Only tensors that have a
# negative value, which are treated as meant, get a warning.
# Guess: -1..1 tensors pass as they are, uint8 arrays are scaled as Pillow pictures are.
# Matters to: latents and tokens of bright pictures, which differ from those of all others, and of arrays from loaders.
source "$(dirname "$0")/environment.sh" diffusers==0.42.1 torch==2.14.1 pillow==13.0.0 numpy==2.4.6
python - <<'PY'
import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

process = VaeImageProcessor(vae_scale_factor=8).preprocess
bright = torch.full((1, 3, 64, 64), 0.5)
ordinary = bright.clone()
ordinary[..., 0, 0] = -0.1
print(f"0.5 of a tensor in [-1, 1]: {float(process(ordinary)[0, 0, 9, 9]):.2f} beside one negative value, "
      f"{float(process(bright)[0, 0, 9, 9]):.2f} without one")
white = np.full((64, 64, 3), 255, np.uint8)
values = {"Pillow": process(Image.fromarray(white)), "uint8 array": process(white),
          "uint8 tensor": process(torch.from_numpy(white).permute(2, 0, 1))}
print("white:", {name: float(x.max()) for name, x in values.items()})
assert float(process(ordinary)[0, 0, 9, 9]) == 0.5
assert float(process(bright)[0, 0, 9, 9]) == 0.0, "bright pictures pass as they are now"
assert [float(x.max()) for x in values.values()] == [1.0, 509.0, 509.0], "8-bit arrays are scaled now"
PY
