#!/usr/bin/env bash
# accelerate divides every loss by gradient_accumulation_steps but steps at the end of an epoch with what it has, so the last
# update of an epoch has a gradient that is too small when the micro-batches do not come out even.
# Guess: an update averages over the micro-batches it is made of.
# Matters to: equal data, other batching: 10 micro-batches in groups of 4 end every epoch with half a gradient; with clipping
# or Adam the step has a weight of its own. No step carries over into the next epoch.
source "$(dirname "$0")/environment.sh" accelerate==1.15.0 torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
net = nn.Linear(1, 1, bias=False)
net, optimizer, batches = accelerator.prepare(
    net, torch.optim.SGD(net.parameters(), lr=0.0), DataLoader(torch.ones(10, 1), batch_size=1)
)
gradients = []
for _ in range(2):
    for x in batches:
        with accelerator.accumulate(net):
            accelerator.backward(net(x).mean())  # its gradient is 1 for every micro-batch
            if accelerator.sync_gradients:
                gradients.append(net.weight.grad.item())
            optimizer.step()
            optimizer.zero_grad()
print("10 micro-batches with gradient 1 each, in groups of 4, two epochs; gradient of every update:", gradients)
assert gradients == [1.0, 1.0, 0.5, 1.0, 1.0, 0.5], "the last update is averaged over its own micro-batches now"
PY
