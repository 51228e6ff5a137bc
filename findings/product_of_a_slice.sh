#!/usr/bin/env bash
# torch's oneDNN product of float32 matrices, which compiled models use for linear layers on a CPU, takes a thousand times
# as long when its second matrix is the transpose of one position of a sequence (rows that do not follow each other in
# memory). The same slice as first matrix costs nothing.
# Guess: strides are copied away or handled by the kernel, as torch.mm does; at worst the copy is lost.
# Matters to: whoever calls the operator for gradients of a layer that reads x[:, 0], such as a class token or one codebook of
# several: the sum is right, and a step takes minutes.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
python - <<'PY'
import time

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
product = torch.ops.mkldnn._linear_pointwise.default


def seconds(x, weight, kind):
    start = time.process_time()
    y = product(x, weight, None, "none", [], "") if kind == "oneDNN" else x @ weight.t()
    return time.process_time() - start, y


gradient, sequence = torch.randn(512, 256), torch.randn(512, 4, 128)
slice_ = sequence[:, 1]
times = {}
for name, second in (("whole", slice_.contiguous()), ("slice", slice_)):
    for kind in ("oneDNN", "mm"):
        runs = [seconds(gradient.t(), second.t(), kind) for _ in range(3)]
        times[name, kind], y = min(run[0] for run in runs), runs[0][1]
        assert torch.allclose(y, gradient.t() @ slice_.contiguous(), atol=1e-3)
        print(f"{kind} with the transpose of a {name}: {times[name, kind] * 1e3:.2f} ms")
first = min(seconds(slice_, torch.randn(256, 128), "oneDNN")[0] for _ in range(3))
print(f"oneDNN with a slice as first matrix: {first * 1e3:.2f} ms")
assert first < 20 * times["whole", "oneDNN"], "a slice as first matrix is slow, too"
assert times["slice", "mm"] < 20 * times["whole", "mm"], "torch.mm is slow, too"
assert times["slice", "oneDNN"] > 50 * times["whole", "oneDNN"], "the slice is as fast as the whole now"
PY
