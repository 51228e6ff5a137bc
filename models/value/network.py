"""Value after every step of a run: the expected score of the final picture, or the number of tokens it still needs.

Papers: "Token-Supervised Value Models for Enhancing Mathematical Problem-Solving Capabilities of Large Language
Models", 2024 (TVM): one regression per token on the final score; "LenVM", 2026: the length value -(1 - gamma^l) of l
tokens that are still to come, learned as the share 1 - gamma^l. Decisions:

* A value belongs to a prefix with its last token, which the generator has not been fed yet where a search compares
  candidates. The network takes the features that the token was drawn from, which hold all before it, and the token
  itself: no network call, and defined after the last step too. The alternative, the features of the next step, would
  cost a call and a copy of the caches for every candidate that is not kept.
* Inputs of a group are averaged after one layer, so any plan will do, one token per step or many.
* The network predicts in units of the deviation of its targets; an affine map per step, fitted on rollouts that were
  not trained on, calibrates it.

Shapes: n samples, N positions, m positions of a group, K steps, D width of the features, W hidden width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.core.canvas import CanvasConfig


@dataclass(frozen=True, kw_only=True)
class ValueConfig(CanvasConfig):
    """Sizes of a `ValueNetwork`.

    Attributes:
        width: Channels of the generator's features.
        steps: Steps of its plan.
        vocab: Codes of its canvas, 0 for vectors.
        codebooks: Codes per position.
        channels: Numbers per vector, 0 for codes.
        hidden: Channels of the network.
        depth: Residual blocks.
        dropout: Dropout of the features, and inside the blocks.
        target: "score", the expected final score, or "length", the number of tokens that are still needed.
        gamma: For lengths: the discount of each further token.
    """

    width: int = 768
    steps: int = 256
    vocab: int = 16384
    codebooks: int = 1
    channels: int = 0
    hidden: int = 128
    depth: int = 2
    dropout: float = 0.1
    target: Literal["score", "length"] = "score"
    gamma: float = 0.97

    def __post_init__(self) -> None:
        self.require_one_kind()
        refuse_outside(self, "", dict.fromkeys(("width", "steps", "codebooks", "hidden"), (1, math.inf)))
        if not 0 < self.gamma < 1:
            raise ArzooError(
                f"gamma is the discount of a token, between 0 and 1, got {self.gamma}; 0.97 for 64"
            )

    def build(self) -> ValueNetwork:
        """Build a network that predicts the mean of its targets."""
        return ValueNetwork(self)


class Block(nn.Module):
    """A residual block of two layers."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x (..., W)."""
        return x + self.fc2(self.dropout(F.gelu(self.fc1(self.norm(x)))))


class ValueNetwork(nn.Module):
    """Values after the steps of a run.

    Attributes:
        mean: Mean of the targets.
        deviation: Their standard deviation.
        slope: (K,) calibration of each step.
        offset: (K,) the same.
    """

    config: ValueConfig
    mean: Tensor
    deviation: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        self.norm, self.dropout = nn.LayerNorm(config.width), nn.Dropout(config.dropout)
        self.input = nn.Linear(config.width, config.hidden)
        self.token: nn.Embedding | nn.Linear = nn.Linear(max(config.channels, 1), config.hidden)
        if config.vocab:
            self.token = nn.Embedding(config.vocab * config.codebooks, config.hidden)
        self.step = nn.Embedding(config.steps, config.hidden)
        self.blocks = nn.ModuleList(Block(config.hidden, config.dropout) for _ in range(config.depth))
        self.output = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("slope", torch.ones(config.steps))
        self.register_buffer("offset", torch.zeros(config.steps))
        if not self.step.weight.is_meta:
            nn.init.zeros_(self.output[1].weight)
            nn.init.zeros_(self.output[1].bias)
            for table in (self.step, self.token):
                nn.init.normal_(table.weight, std=0.02)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its residual blocks."""
        return [*self.blocks]

    def inputs(self, features: Tensor, values: Tensor) -> Tensor:
        """Embed tokens (n, m, ...) and the features (n, m, D) that they were drawn from, as (n, m, W)."""
        if self.config.vocab:
            codes = values[..., None] if values.dim() == 2 else values
            shift = self.config.vocab * torch.arange(codes.shape[-1], device=codes.device)
            tokens = self.token(codes + shift).sum(-2)
        else:
            tokens = self.token(values.float())
        return F.gelu(self.input(self.dropout(self.norm(features.float()))) + tokens)

    def outputs(self, group: Tensor, steps: Tensor) -> Tensor:
        """Return predictions (...) of the mean inputs (..., W) of a group, before calibration and in units of targets.

        They are scores in deviations from the mean, or logits of 1 - gamma^l.

        Args:
            group: Mean inputs.
            steps: Steps of the groups, broadcast against them.
        """
        x = group + self.step(steps)
        for block in self.blocks:
            x = block(x)
        return self.output(x)[..., 0]

    def forward(self, features: Tensor, values: Tensor, steps: Tensor) -> Tensor:
        """Return the outputs (n, K) after all steps of whole runs.

        Args:
            features: (n, N, D) what every token was drawn from.
            values: (n, N, ...) tokens.
            steps: (n, N) step of each, negative for those that were not drawn.
        """
        x, count = self.inputs(features, values), self.config.steps
        # Tokens that were not drawn go to a group of their own, which is dropped.
        index = torch.where(steps < 0, count, steps.long())
        sums = x.new_zeros(len(x), count + 1, x.shape[-1]).scatter_add(1, index[..., None].expand_as(x), x)
        sizes = x.new_zeros(len(x), count + 1).scatter_add(1, index, torch.ones_like(index, dtype=x.dtype))
        group = (sums / sizes.clamp(min=1)[..., None])[:, :count]
        return self.outputs(group, torch.arange(count, device=x.device))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each output: squared error in deviations, or the cross-entropy of 1 - gamma^l.

        Args:
            outputs: What `forward` returns.
            targets: As `in_units` returns them, of the same shape.
        """
        if self.config.target == "length":
            return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return (outputs - (targets - self.mean) / self.deviation).square()

    def in_units(self, targets: Tensor) -> Tensor:
        """Return what is regressed on: scores themselves, or 1 - gamma^l of lengths."""
        return 1 - self.config.gamma**targets if self.config.target == "length" else targets

    def uncalibrated(self, outputs: Tensor) -> Tensor:
        """Return predictions in the units of `in_units`."""
        if self.config.target == "length":
            return outputs.sigmoid()
        return self.mean + self.deviation * outputs

    def of_units(self, predictions: Tensor) -> Tensor:
        """Return scores, or lengths from 0 to the number of steps; the inverse of `in_units`."""
        if self.config.target != "length":
            return predictions
        most = 1 - self.config.gamma**self.config.steps
        return (1 - predictions.clamp(0, most)).log() / math.log(self.config.gamma)

    @torch.no_grad()
    def value(self, features: Tensor, values: Tensor, step: int) -> Tensor:
        """Return calibrated scores or lengths (n,) after a step.

        Args:
            features: (n, m, D) what the tokens of its group were drawn from.
            values: (n, m, ...) the tokens.
            step: The step.
        """
        group = self.inputs(features, values).mean(1)
        outputs = self.outputs(group, torch.tensor(step, device=group.device))
        return self.of_units(self.slope[step] * self.uncalibrated(outputs) + self.offset[step])
