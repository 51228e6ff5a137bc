"""Settings of a training run that tokenizers and generators share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from arzoo.config import Config
from arzoo.errors import ArzooError


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Config):
    """AdamW and its schedule.

    Attributes:
        lr: Learning rate after the warm-up.
        betas: Decay of the moment estimates.
        weight_decay: Decoupled decay of matrices; vectors (norms, biases) have none.
        warmup: Steps of linear warm-up.
        schedule: "constant" or "cosine" (to zero at the last step).
        clip: Largest gradient norm.
        ema: Decay of the averaged weights, which are what is saved as the model.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    warmup: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    clip: float = 1.0
    ema: float = 0.998

    def factor(self, steps: int) -> Callable[[int], float]:
        """Multiplier of the learning rate as a function of the step."""

        def of(step: int) -> float:
            if step < self.warmup:
                return (step + 1) / self.warmup
            if self.schedule == "constant":
                return 1.0
            progress = (step - self.warmup) / max(steps - self.warmup, 1)
            return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

        return of

    def build(self) -> OptimConfig:
        """Itself: the optimizer is made per module by `optimizer`."""
        return self

    def optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        """AdamW over the trainable parameters of a module."""
        params = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in params if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Length, pace and bookkeeping of a run.

    Attributes:
        steps: Optimizer steps of the whole schedule.
        batch: Samples a step, over all processes.
        accumulate: Micro-batches a step.
        seed: Everything random follows from it and the step.
        precision: "fp32" or "bf16" (autocast).
        compile: Compile the modules with torch.compile.
        threads: CPU threads, 0 leaves them as they are.
        log_every: Steps between log lines.
        preview_every: Steps between pictures and validation.
        save_every: Steps between saved states.
        keep: Saved states that stay on disk.
    """

    steps: int = 1000
    batch: int = 64
    accumulate: int = 1
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    threads: int = 0
    log_every: int = 50
    preview_every: int = 500
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.accumulate < 1 or self.batch % self.accumulate:
            raise ArzooError(
                f"a run needs at least one step and sample, and a batch that its accumulation divides; got "
                f"steps={self.steps}, batch={self.batch}, accumulate={self.accumulate}"
            )

    def build(self) -> RunConfig:
        """Itself."""
        return self
