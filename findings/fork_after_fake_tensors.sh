#!/usr/bin/env bash
# If the first backward pass of a process runs under fake tensors, processes forked from it cannot compute gradients.
# Guess: fake tensors leave nothing behind; a process that has no accelerator can fork after any backward pass.
# Matters to: test suites and launchers that trace or compile a model first and then fork workers that train.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
for order in "real" "fake" "real fake"; do python - $order <<'PY'
import os
import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def backward():
    x = torch.ones(3, requires_grad=True)
    (x * 2).sum().backward()


def in_a_fork():
    child = os.fork()
    if child == 0:
        try:
            backward()
            os._exit(0)
        except RuntimeError as error:
            print(" in the fork:", str(error).split(".")[0], flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


for kind in sys.argv[1:]:
    if kind == "fake":
        with FakeTensorMode():
            backward()
    else:
        backward()
works = in_a_fork()
print("backward passes before the fork:", *sys.argv[1:], "- the fork computes gradients:", works)
assert works == (sys.argv[1] == "real"), "the first pass no longer decides"
PY
done
