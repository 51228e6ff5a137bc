#!/usr/bin/env bash
# FlopCounterMode counts no operation of fused attention on a CPU, and all of them on other devices.
# Guess: scaled_dot_product_attention is counted wherever it runs; there are formulas for its kernels.
# Matters to: who compares models by operations counted on a CPU, such as long sequences with short ones: attention is free.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def counted(device, *backends):
    query = torch.ones(1, 4, 64, 32, device=device)
    with sdpa_kernel([*backends]) if backends else torch.no_grad(), FlopCounterMode(display=False) as counter:
        F.scaled_dot_product_attention(query, query, query)
    return counter.get_total_flops()


flops = {"cpu": counted("cpu"), "cpu, plain products": counted("cpu", SDPBackend.MATH), "meta": counted("meta")}
print("operations of attention over 64 tokens, 4 heads of 32:", flops)
assert flops == {"cpu": 0, "cpu, plain products": 2097152, "meta": 2097152}, "it is counted now"
PY
