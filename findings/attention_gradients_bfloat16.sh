#!/usr/bin/env bash
# On a CPU the gradients of scaled_dot_product_attention in bfloat16 take several times as long as those of two products
# and a softmax, while in float32 both take about as long.
# Guess: the fused kernel is the fast one, in training as in inference, and bfloat16 makes it faster.
# Matters to: whoever trains small transformers on a CPU under bfloat16 autocast: attention becomes the slowest part of a
# step, and nothing in the code looks slow. Numbers agree; only time is lost.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
python - <<'PY'
import time

import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_num_threads(1)


def products(q, k, v):
    return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v


def backward_seconds(attention, parts):
    best, grads = 1e9, None
    for _ in range(5):
        leaves = [part.detach().requires_grad_() for part in parts]
        out = attention(*leaves).sum()
        start = time.process_time()
        out.backward()
        best, grads = min(best, time.process_time() - start), [leaf.grad.float() for leaf in leaves]
    return best, grads


ratio = {}
for dtype in (torch.float32, torch.bfloat16):
    parts = [torch.randn(32, 4, 129, 32).to(dtype) for _ in range(3)]
    fused, exact = backward_seconds(F.scaled_dot_product_attention, parts)
    plain, other = backward_seconds(products, parts)
    ratio[dtype] = fused / plain
    apart = max(float((a - b).norm() / b.norm()) for a, b in zip(exact, other))
    print(f"{dtype}: gradients fused {fused * 1e3:.0f} ms, products {plain * 1e3:.0f} ms, ratio {ratio[dtype]:.1f}, apart {apart:.1e}")
assert ratio[torch.float32] < 2, "the fused gradients are slow in float32, too"
assert ratio[torch.bfloat16] > 3, "the fused gradients are fast in bfloat16 now"
PY
