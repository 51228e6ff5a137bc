#!/usr/bin/env bash
# An exponential moving average of bfloat16 weights stays in bfloat16: its step (1 - decay) * difference falls below half of the
# last digit and is lost, so the average stops far from the weights.
# Guess: the average is kept in float32, or at least gets near in the end.
# Matters to: who samples with averaged weights of a model held in bfloat16: they are nearly the initial ones. timm's is right.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6 diffusers==0.42.1 timm==1.0.31
python - <<'PY'
import torch
from diffusers.training_utils import EMAModel
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY, STEPS = 0.999, 5000


def average(kind, dtype):
    """The average after weights jumped from 0 to 1 and stayed there."""
    net = nn.Linear(8, 8, bias=False).to(dtype)  # diffusers copies weights that need no gradient
    net.weight.data.zero_()
    if kind == "torch AveragedModel":
        ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        update, read = ema.update_parameters, lambda: ema.module.weight
        update(net)  # the first one copies
    elif kind == "diffusers EMAModel":
        ema = EMAModel(net.parameters(), decay=DECAY, min_decay=DECAY)
        update, read = lambda net: ema.step(net.parameters()), lambda: ema.shadow_params[0]
        update(net)
    else:
        ema = ModelEmaV3(net, decay=DECAY)
        update, read = ema.update, lambda: ema.module.weight
    net.weight.data.fill_(1)
    for _ in range(STEPS):
        update(net)
    return float(read().detach().float().mean())


right = 1 - DECAY**STEPS
print(f"exact {right:.4f}")
stuck = {}
for kind in ("torch AveragedModel", "diffusers EMAModel", "timm ModelEmaV3"):
    full, half = average(kind, torch.float32), average(kind, torch.bfloat16)
    stuck[kind] = abs(half - right) > 0.4
    print(f"{kind}: float32 {full:.4f}, bfloat16 {half:.4f}")
    assert abs(full - right) < 0.01
assert stuck == {"torch AveragedModel": True, "diffusers EMAModel": True, "timm ModelEmaV3": False}, "other libraries stop now"
PY
