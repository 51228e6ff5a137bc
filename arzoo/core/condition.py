"""Cond: the condition of a batch, a class, a caption, previous frames or a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid

_CONDITIONS = ("label", "text", "text_mask", "prefix")


@dataclass
class Cond:
    """Condition of a batch.

    Attributes:
        batch: Number of rows.
        label: (B,) int64 class of each row; a negative label means "no class", and so does None for all rows. Backbones
            call `label_or` or `unlabelled`, which also respect `drop`.
        text: (B, L, *) token ids or embeddings of a caption.
        text_mask: (B, L) bool or 0/1, False at padding.
        prefix: (B, P, *) tokens of what comes before the canvas: of frames, or of the picture that a text describes. A
            first frame on the canvas itself is given through `Tokens` instead.
        grid: Places of the P tokens of a picture in raster order; None for other prefixes.
        drop: (B,) bool, rows that use the null condition of the model. Label dropout in training and the second branch
            of classifier-free guidance both use it, so a backbone handles its null in one place.
    """

    batch: int
    label: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    prefix: Tensor | None = None
    drop: Tensor | None = None
    grid: Grid | None = None

    def __post_init__(self) -> None:
        for name in (*_CONDITIONS, "drop"):
            value = getattr(self, name)
            if value is not None and len(value) != self.batch:
                raise ArzooError(f"condition {name!r} has {len(value)} rows, the batch has {self.batch}")
        if self.drop is None:
            conditions = (getattr(self, name) for name in _CONDITIONS)
            device = next((v.device for v in conditions if v is not None), torch.device("cpu"))
            self.drop = torch.zeros(self.batch, dtype=torch.bool, device=device)

    @property
    def dropped(self) -> Tensor:
        """`drop`, which is always set after construction."""
        assert self.drop is not None
        return self.drop

    @property
    def unlabelled(self) -> Tensor:
        """(B,) bool, rows without a class: dropped rows, negative labels, and all rows if `label` is None."""
        return torch.ones_like(self.dropped) if self.label is None else self.dropped | (self.label < 0)

    def label_or(self, null: int) -> Tensor:
        """(B,) int64 indices into a table of classes, with `null` for rows without a class."""
        label = torch.full_like(self.dropped, null, dtype=torch.long) if self.label is None else self.label
        return torch.where(self.unlabelled, null, label)

    def map(self, function: Callable[[Tensor], Tensor]) -> Cond:
        """Apply a function that acts on rows to every tensor."""
        values = {name: getattr(self, name) for name in _CONDITIONS}
        drop = function(self.dropped)
        return Cond(
            len(drop),
            drop=drop,
            grid=self.grid,
            **{k: None if v is None else function(v) for k, v in values.items()},
        )

    def select(self, index: Tensor) -> Cond:
        """Select rows, in the order of `index`."""
        return self.map(lambda v: v[index])

    def doubled(self) -> Cond:
        """Stack this condition and the null condition, [self; null], for classifier-free guidance."""
        both = self.map(lambda v: torch.cat([v, v]))
        both.dropped[self.batch :] = True
        return both

    def to(self, device: torch.device | str) -> Cond:
        """Move the condition to a device."""
        return self.map(lambda v: v.to(device))
