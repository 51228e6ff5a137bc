"""The averaged weights (EMA), complete in every process or split like the model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from arzoo.train.devices import assign, full, local


class Average:
    """Exponential moving average of a module's weights and buffers, with timm's warm-up of the decay.

    Args:
        module: The module to average, before it is split over processes; it is copied.
        decay: Decay of the average per step, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.ema = ModelEmaV3(module, decay=decay, use_warmup=True)
        self._shards: dict[str, Tensor] | None = None

    @property
    def module(self) -> nn.Module:
        """The averaged model; for a split model, the state at the last `gather`."""
        return self.ema.module

    def split(self, sharded: nn.Module) -> None:
        """Average only the shards of this process from now on."""
        self._shards = {name: value.detach().clone() for name, value in sharded.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average after a step."""
        if self._shards is None:
            self.ema.update(module, step=step)
            return
        weight = 1 - self.ema.get_decay(step)
        for name, value in module.state_dict().items():
            mean, new = local(self._shards[name]), local(value)
            mean.lerp_(new, weight) if mean.is_floating_point() else mean.copy_(new)

    def gather(self) -> nn.Module:
        """Return the averaged model with its current weights. All processes must call it."""
        if self._shards is not None:
            self.module.load_state_dict({name: full(value) for name, value in self._shards.items()})
        return self.module

    def held(self) -> Iterator[Tensor]:
        """Yield the tensors of the average in this process."""
        yield from self.module.state_dict().values()
        yield from (self._shards or {}).values()

    def load(self, state: dict[str, Tensor]) -> None:
        """Set the average.

        Raises:
            RuntimeError: Names or shapes differ.
        """
        self.module.load_state_dict(state)
        for name, shard in (self._shards or {}).items():
            assign(shard, state[name])
