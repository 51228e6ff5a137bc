"""Initial weights that several published networks share."""

from __future__ import annotations

from torch import nn


def xavier(*networks: nn.Module) -> None:
    """Initialize the linear layers of networks by Xavier's rule with zero biases, embeddings with deviation 0.02."""
    for part in (part for network in networks for part in network.modules()):
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
