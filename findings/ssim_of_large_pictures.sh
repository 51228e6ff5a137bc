#!/usr/bin/env bash
# piq.ssim averages pictures of 384 pixels and more down to about 256 before it compares them; others compare them as they are.
# Guess: two SSIMs with the same window agree, as they do up to 383 pixels.
# Matters to: tables of reconstructions at 512 pixels: noise and blur of single pixels hardly count. Pass downsample=False to compare.
source "$(dirname "$0")/environment.sh" piq==0.8.0 torchmetrics==1.9.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
python - <<'PY'
import piq
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

torch.manual_seed(0)
difference = {}
for side in (256, 512):
    smooth = F.interpolate(torch.rand(1, 3, 16, 16), size=(side, side), mode="bilinear")
    noisy = (smooth + 0.1 * torch.randn(smooth.shape)).clamp(0, 1)
    shrunk, plain = (float(piq.ssim(noisy, smooth, data_range=1.0, downsample=d)) for d in (True, False))
    other = float(ssim(noisy, smooth, data_range=1.0))
    difference[side] = abs(shrunk - other), abs(plain - other)
    print(f"{side} pixels: piq {shrunk:.3f}, piq without downsampling {plain:.3f}, torchmetrics {other:.3f}")
assert max(difference[256]) < 0.01
assert difference[512][1] < 0.01
assert difference[512][0] > 0.1, "piq compares large pictures as they are now"
PY
