"""A step of training, divided into micro-batches."""

from __future__ import annotations

import torch

from arzoo.core.draws import sample_draws
from arzoo.train.noise import SampleNoise
from arzoo.train.objective import LAYERS


def loss_of(task, numbers, division):
    """Mean loss over parts of a step, and the gradients."""
    model = task.parts["model"].train()
    model.zero_grad()
    total = 0.0
    for part in numbers.chunk(division):
        torch.manual_seed(3)
        some = part.tolist()
        with SampleNoise(sample_draws(0, some, LAYERS)):
            loss, _ = task.loss("model", task.parts, task.batch(0, some), 0)
        (loss / division).backward()
        total += loss.item() / division
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]
