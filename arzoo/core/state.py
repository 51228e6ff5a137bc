"""State: what a backbone remembers during one run.

Shapes: B samples, R rows (B, or 2B = [conditional; null] under guidance), S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from arzoo.core.condition import Cond
from arzoo.core.plan import Plan


class State:
    """Memory of a backbone during one run.

    Tensors have R rows, or B rows if their name ends with `_B`; `select` relies on this.

    Attributes:
        plan: The plan of the run.
        branches: 1, or 2 under classifier-free guidance.
        batch: Number of samples.
        cond: Condition of all R rows.
        tensors: Named tensors of the backbone.
        kv: Tensors of R rows per layer (keys and values, or a recurrent state).
        fill: Entries of the caches in use.
        counts: Smallest and largest number of known tokens of a sample before each step, counted on the host by the
            loop; None outside of it.
        given: For each step, whether some sample has a token of it given; likewise.
    """

    def __init__(self, plan: Plan, cond: Cond, branches: int) -> None:
        self.plan, self.branches, self.batch = plan, branches, cond.batch
        self.cond = cond.doubled() if branches == 2 else cond
        self.tensors: dict[str, Tensor] = {}
        self.kv: list[tuple[Tensor, ...]] = []
        self.fill = 0
        self.counts: Sequence[tuple[int, int]] | None = None
        self.given: Sequence[bool] | None = None
        self._fed = -1

    @property
    def rows(self) -> int:
        """Number R of rows that the backbone computes."""
        return self.batch * self.branches

    def pending(self, step: int) -> tuple[Tensor, int]:
        """Take the slots that were committed before a step and not fed yet, and mark them fed.

        Returns:
            Slots (1 or R, S) in feeding order, and the number of ranks among them.
        """
        slots, ranks = self.plan.fed(self._fed, step), self.plan.ranks_fed(self._fed, step)
        self._fed = max(step, self._fed)
        return self.repeat(slots), ranks

    def complete(self, step: int) -> bool:
        """Whether all slots that a step depends on were fed, so that reading it takes no pass."""
        return self.plan.ranks_fed(self._fed, step) == 0

    def rewind(self, step: int) -> State:
        """This state without the slots of ranks `step` and later, if any were fed.

        The result shares all tensors with this state; what is fed to it next overwrites the later entries of the
        caches. Only for backbones that have a `window`.
        """
        new = copy(self)
        new.fill -= self.plan.fed(step, self._fed).shape[1]
        new._fed = min(step, self._fed)
        return new

    def seen(self) -> Tensor:
        """Slots fed so far (1 or R, S), in feeding order."""
        return self.repeat(self.plan.fed(-1, self._fed))

    def repeat(self, x: Tensor) -> Tensor:
        """Repeat rows for every branch, (B, ...) -> (R, ...); a tensor for all samples, (1, ...), is unchanged."""
        if len(x) == 1 or self.branches == 1:
            return x
        return torch.cat([x, x])

    def select(self, index: Tensor) -> State:
        """Copy some samples; the copy is independent of this state."""
        new = copy(self)
        rows = torch.cat([index + i * self.batch for i in range(self.branches)])
        new.plan, new.batch, new.cond = self.plan.select(index), len(index), self.cond.select(rows)
        new.tensors = {name: v[index if name.endswith("_B") else rows] for name, v in self.tensors.items()}
        new.kv = [tuple(t[rows] for t in layer) for layer in self.kv]
        return new

    @property
    def nbytes(self) -> int:
        """Memory of the caches in bytes."""
        return sum(t.nbytes for t in [*self.tensors.values(), *(t for layer in self.kv for t in layer)])
