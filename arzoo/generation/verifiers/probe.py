"""A linear classifier on the features of a frozen network.

Shapes: n pictures, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Config):
    """How a probe is trained.

    Attributes:
        data: Data set whose training split it learns from.
        net: Registered feature network.
        dropout: Dropout of the features.
        smoothing: Smoothing of the labels, which keeps log-probabilities of unlikely classes finite in practice.
        epochs: Passes over the pictures.
        batch: Pictures per step.
        lr: Learning rate of AdamW, falling to zero as a cosine.
        weight_decay: Its weight decay.
        seed: Weights and order of the data.
    """

    data: str = "emoji64"
    net: str = "squeezenet"
    dropout: float = 0.5
    smoothing: float = 0.1
    epochs: int = 30
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 1.0
    seed: int = 0


class Probe(nn.Module):
    """Log-probabilities of classes from standardised features.

    Args:
        width: D.
        classes: K.
        dropout: Dropout of the features in training.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return log-probabilities (n, K) of features (n, D)."""
        logits: Tensor = self.layers((features - self.mean) / self.deviation)
        return logits.log_softmax(1)


def train_probe(features: Tensor, labels: Tensor, classes: int, config: ProbeConfig) -> Probe:
    """Train a probe; the result follows from the arguments alone.

    Args:
        features: (n, D) of pictures.
        labels: (n,) int64.
        classes: K.
        config: Settings of the training.
    """
    rng = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        probe = Probe(features.shape[1], classes, config.dropout).train()
        probe.mean.copy_(features.mean(0))
        probe.deviation.copy_(features.std(0, correction=0) + 1e-3)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        steps = config.epochs * -(-len(features) // config.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(config.epochs):
            for rows in torch.randperm(len(features), generator=rng).split(config.batch):
                log_probs = probe(features[rows])
                # The loss of log-probabilities as logits is that of the logits.
                loss = F.cross_entropy(log_probs, labels[rows], label_smoothing=config.smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return probe.eval()
