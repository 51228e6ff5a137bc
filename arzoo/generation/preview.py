"""Steps of the loop whose pictures can be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from arzoo.core import pyramid
from arzoo.samplers.loop import Step

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


@dataclass
class Drawn(Step):
    """A step of `Generator.stream`. Like its run, what it shows changes with the next one."""

    model: Generator

    def preview(self) -> Tensor:
        """The pictures so far, (B, H, W, 3) uint8; behind the last step those that `Generator.generate` gives.

        What is not drawn yet shows the first code or zeros, and in a pyramid the coarser level.
        """
        return self.model.decode(pyramid.so_far(self.run.tokens, self.run.plan.layout))
