"""Training of the small networks that verifiers put behind frozen ones, on features that are computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.base.console import progress
from arzoo.models.vision.features import FeatureNet, pooled

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How a network is trained.

    Attributes:
        data: Data set whose training split it learns from.
        epochs: Passes over the pictures.
        batch: Pictures per step.
        lr: Learning rate of AdamW, falling to zero as a cosine.
        weight_decay: Its weight decay.
        seed: Weights and order of the data.
    """

    data: str = "emoji64"
    epochs: int = 30
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 0


def features_of(net: FeatureNet, images: Tensor) -> Tensor:
    """Return pooled features (n, D) of pictures (n, H, W, 3) uint8 for a training, and show the progress."""
    with progress("looking at pictures", "pictures") as tell:
        return pooled(net, images, progress=tell).clone()  # out of inference mode


def trained(
    build: Callable[[], N], loss: Callable[[N, Tensor], Tensor], count: int, config: TrainingConfig
) -> N:
    """Return a network that was trained; it follows from the arguments alone.

    Args:
        build: Makes it.
        loss: Its loss for some pictures, by their numbers.
        count: Number of pictures.
        config: Settings of the training.
    """
    rng = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = build().train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        steps = config.epochs * -(-count // config.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with progress("training the verifier", "passes") as tell:
            for epoch in range(config.epochs):
                for rows in torch.randperm(count, generator=rng).split(config.batch):
                    value = loss(net, rows)
                    optimizer.zero_grad()
                    value.backward()
                    optimizer.step()
                    schedule.step()
                tell(epoch + 1, config.epochs)
    return net.eval()
