"""Codes of a few pictures in place of a missing cache: a rehearsal does not encode the data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.estimate import expected_seconds
from arzoo.core.contracts import Tokenizer
from arzoo.data.base import ImageSet
from arzoo.data.codes import Codes
from arzoo.data.encoding import block_tokens, code_key, grids_of
from arzoo.data.views import BLOCK, Views


@dataclass(frozen=True)
class Sketch(Codes):
    """A stand-in for the finished cache, in which every picture has the tokens of one of a few.

    Attributes:
        few: Tokens of a few pictures, in the format of a shard.
        seconds: Expected time to encode all pictures.
    """

    few: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def _tensors(self) -> list[dict[str, Tensor]]:
        return [self.few]

    def _rows(self, key: str, variants: Tensor, index: Tensor) -> Tensor:
        tokens = self.few[key]
        if self.grids is not None:
            size = self.layout_of(index).size
            some = torch.arange(len(index) * size) % len(tokens)
            return tokens[some].unflatten(0, (len(index), size)).to(self.spec.dtype)
        rows = tokens[index % len(tokens)]
        return rows if rows.dtype == torch.bool else rows.to(self.spec.dtype)


@torch.no_grad()
def codes_or_sketch(
    folder: Path,
    tokenizer: Tokenizer,
    tokenizer_hash: str,
    data: ImageSet,
    views: Views,
    source: str,
    quality: float | None = None,
) -> Codes:
    """Open the cache in a folder, or return a sketch of it; writes nothing. Arguments as for `encode_split`."""
    try:
        return Codes.load(folder)
    except ArzooError:  # none yet, or one that the run would repair
        pass
    device = next(tokenizer.parameters()).device

    def encode(view: int, first: int) -> dict[str, Tensor]:
        pictures = [(places, x.to(device)) for places, x in views.parts(data, view, first)]
        return block_tokens(tokenizer, data, pictures, BLOCK, quality)

    few = encode(views.count - 1, 0)  # also warms up: the first batch is slower than the others
    blocks = [(view, first) for view in range(views.count) for first in range(0, len(data), BLOCK)]
    seconds = expected_seconds((encode(*block) for block in blocks), len(blocks))
    return Sketch(
        folder, data.labels, data.classes, tokenizer.spec,
        code_key(tokenizer, tokenizer_hash, data, views, quality), (), torch.zeros(0, dtype=torch.long), source,
        grids_of(tokenizer, data), few=few, seconds=seconds,
    )  # fmt: skip
