#!/usr/bin/env bash
# torchvision's first `to_tensor` reads 16-bit grey pictures as signed: the brighter half becomes negative. (Pillow's own convert
# to RGB cuts everything above 255 to white; v2's `to_image` with `to_dtype(scale=True)` is right.)
# Guess: values 0 to 65535, or 0 to 1.
# Matters to: depth maps, microscopy and medical pictures as conditions or targets: white turns blacker than black.
source "$(dirname "$0")/environment.sh" torchvision==0.29.1 torch==2.14.1 pillow==13.0.0 numpy==2.4.6
python - <<'PY'
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

values = [0, 1000, 32767, 32768, 40000, 65535]
Image.fromarray(np.array([values], dtype=np.uint16)).save("a.png")
with Image.open("a.png") as picture:
    old = v1.to_tensor(picture)
    new = v2.to_dtype(v2.to_image(picture), torch.float32, scale=True)
print("in the file       ", values)
print("to_tensor         ", old.flatten().tolist(), old.dtype)
print("v2, scaled        ", [round(v, 4) for v in new.flatten().tolist()])
assert old.flatten().tolist() == [0, 1000, 32767, -32768, -25536, -1], "to_tensor reads them unsigned now"
assert torch.allclose(new.flatten(), torch.tensor(values) / 65535)
PY
