"""Cond: what a sample is asked to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError

_ASKED = ("label", "text", "text_mask", "prefix")


@dataclass
class Cond:
    """Condition of a batch.

    Attributes:
        batch: Number of rows.
        label: (B,) int64 class of each row; a negative label means "no class", and so does None for all rows. Backbones
            ask `label_or` or `unlabelled`, which also know of `drop`.
        text: (B, L, *) token ids or embeddings of a caption.
        text_mask: (B, L) bool or 0/1, False at padding.
        prefix: (B, P, *) tokens of the frames that come before the canvas; a first frame on the canvas itself is given
            through `Tokens` instead.
        drop: (B,) bool, rows that use the model's own null condition. One switch serves label dropout in training and
            the second branch of classifier-free guidance, so a backbone has one place that knows its null.
    """

    batch: int
    label: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    prefix: Tensor | None = None
    drop: Tensor | None = None

    def __post_init__(self) -> None:
        for name in (*_ASKED, "drop"):
            value = getattr(self, name)
            if value is not None and len(value) != self.batch:
                raise ArzooError(f"condition {name!r} has {len(value)} rows, the batch has {self.batch}")
        if self.drop is None:
            asked = (getattr(self, name) for name in _ASKED)
            device = next((v.device for v in asked if v is not None), torch.device("cpu"))
            self.drop = torch.zeros(self.batch, dtype=torch.bool, device=device)

    @property
    def dropped(self) -> Tensor:
        """`drop`, which is always set after construction."""
        assert self.drop is not None
        return self.drop

    @property
    def unlabelled(self) -> Tensor:
        """(B,) bool, rows that show no class: dropped, with a negative label, or all where no label is given."""
        return torch.ones_like(self.dropped) if self.label is None else self.dropped | (self.label < 0)

    def label_or(self, null: int) -> Tensor:
        """(B,) int64 rows of a table of classes, `null` for rows that show no class."""
        label = torch.full_like(self.dropped, null, dtype=torch.long) if self.label is None else self.label
        return torch.where(self.unlabelled, null, label)

    def map(self, function: Callable[[Tensor], Tensor]) -> Cond:
        """Apply a function of the rows to every tensor."""
        asked = {name: getattr(self, name) for name in _ASKED}
        drop = function(self.dropped)
        return Cond(len(drop), drop=drop, **{k: None if v is None else function(v) for k, v in asked.items()})

    def select(self, index: Tensor) -> Cond:
        """Some rows, in the order of `index`."""
        return self.map(lambda v: v[index])

    def doubled(self) -> Cond:
        """[self; self with the null condition]: the rows of classifier-free guidance."""
        two = self.map(lambda v: torch.cat([v, v]))
        two.dropped[self.batch :] = True
        return two

    def to(self, device: torch.device | str) -> Cond:
        """The condition on another device."""
        return self.map(lambda v: v.to(device))
