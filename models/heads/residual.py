"""The residual block of heads that draw one token at a time ("MAR", 2024, section 4)."""

from __future__ import annotations

from torch import Tensor, nn

from arzoo.models.common.activations import silu


class ResidualMLP(nn.Module):
    """Two layers, modulated before and gated after; shift, scale and gate are inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Apply the block to x (..., W) with a modulation (..., 3 W), [shift | scale | gate]."""
        shift, scale, gate = modulation.chunk(3, -1)
        return x + gate * self.fc2(silu(self.fc1(self.norm(x) * (1 + scale) + shift)))


class ConditionedMLP(ResidualMLP):
    """The same block with its own layer that computes the modulation from a condition."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Apply the block to x (..., W) with a condition (..., W) after its activation."""
        return super().forward(x, self.modulation(condition))
