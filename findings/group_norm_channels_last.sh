#!/usr/bin/env bash
# GroupNorm on a CPU computes the variance of channels_last tensors as E[x^2] - E[x]^2 in float32, which cancels.
# Guess: a memory format changes speed, not results beyond rounding (1e-6).
# Matters to: convolutional tokenizers and U-Nets run in channels_last; error and gradient grow with (mean / deviation)^2,
# and a flat group, which should become 0, becomes a constant that depends on rounding. Contiguous tensors are right.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
import torch.nn.functional as F

torch.manual_seed(0)
error = {}
for mean in (0, 10, 100, 1000):
    x = torch.randn(2, 32, 16, 16) + mean
    exact = F.group_norm(x.double(), 8)
    plain, last = (F.group_norm(y, 8) for y in (x, x.to(memory_format=torch.channels_last)))
    error[mean] = float((plain - exact).abs().max()), float((last - exact).abs().max())
    print(f"mean {mean}, deviation 1: error contiguous {error[mean][0]:.1e}, channels_last {error[mean][1]:.1e}")
flat = torch.full((1, 32, 16, 16), 300.1)
plain, last = (float(F.group_norm(y, 8, eps=1e-6).abs().max()) for y in (flat, flat.to(memory_format=torch.channels_last)))
print(f"flat picture of 300.1, should be 0: contiguous {plain:.1e}, channels_last {last:.1e}")
assert error[100][0] < 1e-4 < 1e-3 < error[100][1], "channels_last is as exact as contiguous now"
assert plain < 1e-3 < last, "a flat group becomes 0 now"
PY
