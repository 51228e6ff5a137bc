#!/usr/bin/env bash
# torchmetrics' PeakSignalNoiseRatio of a set is the PSNR of the mean squared error of all pictures together; piq's, and the
# tables of most papers on tokenizers, are the mean of the pictures' PSNRs.
# Guess: two implementations agree on a set of equal-sized pictures.
# Matters to: comparing reconstruction figures: one bad picture decides the first and hardly moves the second, 10 dB apart here.
source "$(dirname "$0")/environment.sh" torchmetrics==1.9.0 piq==0.8.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
python - <<'PY'
import piq
import torch
from torchmetrics.image import PeakSignalNoiseRatio

torch.manual_seed(0)
pictures = torch.rand(2, 3, 64, 64) * 0.5 + 0.25
noise = torch.tensor([0.002, 0.05]).view(2, 1, 1, 1) * torch.randn(pictures.shape)
rebuilt = (pictures + noise).clamp(0, 1)
metric = PeakSignalNoiseRatio(data_range=1.0)
metric.update(rebuilt, pictures)
pooled, mean = float(metric.compute()), float(piq.psnr(rebuilt, pictures, data_range=1.0))
single = [float(piq.psnr(r[None], p[None], data_range=1.0)) for r, p in zip(rebuilt, pictures)]
print(f"two pictures {single[0]:.1f} and {single[1]:.1f} dB: torchmetrics {pooled:.1f}, piq {mean:.1f}")
assert abs(mean - sum(single) / 2) < 0.01
assert mean - pooled > 5, "torchmetrics averages over pictures now"
PY
