#!/usr/bin/env bash
# torchvision's `center_crop` rounds the offset half to even, so odd margins of 3, 7, 11 pixels start one pixel later than
# margin // 2, which Pillow's ImageOps, the ADM preparation of ImageNet and most loaders take, while 1, 5, 9 do not.
# Guess: the offset is always margin // 2.
# Matters to: FID and reconstruction figures against references cropped elsewhere: every fourth size is shifted by a pixel.
source "$(dirname "$0")/environment.sh" torchvision==0.29.1 torch==2.14.1 numpy==2.4.6 pillow==13.0.0
python - <<'PY'
import numpy as np
from PIL import Image
from torchvision.transforms import functional, v2

size, margins = 64, list(range(1, 13))
offsets = []
for margin in margins:
    row = np.arange(size + margin, dtype=np.uint8)
    picture = Image.fromarray(np.repeat(row[None], size, 0))
    one, two = (np.asarray(crop(picture, [size, size]))[0, 0] for crop in (functional.center_crop, v2.functional.center_crop))
    assert one == two
    offsets.append(int(one))
floor = [margin // 2 for margin in margins]
print("margins     ", margins)
print("center_crop ", offsets)
print("margin // 2 ", floor)
later = [m for m, offset, f in zip(margins, offsets, floor) if offset != f]
print("shifted at margins", later)
assert later == [3, 7, 11], "the rounding changed"
PY
