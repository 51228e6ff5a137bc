#!/usr/bin/env bash
# torchmetrics' SSIM without data_range takes the range of the values it is given, so a picture's score depends on its batch.
# Guess: floats count as 0 to 1, and a picture has the same score whatever lies beside it.
# Matters to: reconstruction tables: dark or flat pictures score far lower one by one than in a batch with a bright one.
source "$(dirname "$0")/environment.sh" torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

torch.manual_seed(0)
bright = F.interpolate(torch.rand(1, 3, 8, 8), size=(64, 64), mode="bilinear")
dark = bright * 0.2
rebuilt = (dark + 0.02 * torch.randn(dark.shape)).clamp(0, 1)
alone, fixed = float(ssim(rebuilt, dark)), float(ssim(rebuilt, dark, data_range=1.0))
both = torch.cat([rebuilt, bright]), torch.cat([dark, bright])
beside = float(ssim(*both, reduction="none")[0])
print(f"a dark picture alone {alone:.3f}, in a batch with a bright one {beside:.3f}; data_range=1: {fixed:.3f}")
assert abs(beside - alone) > 0.05, "the score no longer depends on the batch"
assert abs(float(ssim(*both, reduction="none", data_range=1.0)[0]) - fixed) < 1e-6
PY
