"""A linear classifier on the features of a frozen network.

Shapes: n pictures, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.generation.verifiers.training import TrainingConfig, trained


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(TrainingConfig):
    """How a probe is trained.

    Attributes:
        net: Registered feature network.
        dropout: Dropout of the features.
        smoothing: Smoothing of the labels, which keeps log-probabilities of unlikely classes finite in practice.
    """

    net: str = "squeezenet"
    dropout: float = 0.5
    smoothing: float = 0.1
    weight_decay: float = 1.0


class Probe(nn.Module):
    """Log-probabilities of classes from standardized features.

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

    def build() -> Probe:
        probe = Probe(features.shape[1], classes, config.dropout)
        probe.mean.copy_(features.mean(0))
        probe.deviation.copy_(features.std(0, correction=0) + 1e-3)
        return probe

    def loss(probe: Probe, rows: Tensor) -> Tensor:
        # The loss of log-probabilities as logits is that of the logits.
        return F.cross_entropy(probe(features[rows]), labels[rows], label_smoothing=config.smoothing)

    return trained(build, loss, len(features), config)
