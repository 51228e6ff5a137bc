"""Codes of a few pictures in the place of a cache that is yet to be made: a rehearsal does not encode a data set."""

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
from arzoo.data.codes import Codes, code_key, tokens_of
from arzoo.data.views import BLOCK, Views


@dataclass(frozen=True)
class Sketch(Codes):
    """Looks like the finished cache; every picture has the tokens of one of a few.

    Attributes:
        few: Tokens of some pictures as a shard holds them.
        seconds: Expected time to encode all.
    """

    few: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def _tensors(self) -> list[dict[str, Tensor]]:
        return [self.few]

    def _rows(self, key: str, variants: Tensor, index: Tensor) -> Tensor:
        tokens = self.few[key]
        return tokens[index % len(tokens)].to(self.spec.dtype)


@torch.no_grad()
def codes_or_sketch(
    folder: Path, tokenizer: Tokenizer, tokenizer_hash: str, data: ImageSet, views: Views, source: str
) -> Codes:
    """The cache in a folder, or what stands in for it; writes nothing. Arguments as those of `encode_split`."""
    try:
        return Codes.load(folder)
    except ArzooError:  # none yet, or one that the run would repair
        pass
    device = next(tokenizer.parameters()).device

    def encode(view: int, first: int) -> dict[str, Tensor]:
        return tokens_of(tokenizer, views.block(data, view, first).to(device))

    few = encode(views.count - 1, 0)  # the first time is slower than those that follow
    blocks = [(view, first) for view in range(views.count) for first in range(0, len(data), BLOCK)]
    seconds = expected_seconds((encode(*block) for block in blocks), len(blocks))
    return Sketch(
        folder, data.labels, data.classes, tokenizer.spec, code_key(tokenizer, tokenizer_hash, data, views),
        (), torch.zeros(0, dtype=torch.long), source,
        few=few, seconds=seconds,
    )  # fmt: skip
