"""A text encoder with random weights that knows no words but their letters, so that tests need no package."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.config import Config
from arzoo.checkpoints.folder import weights_sha256
from arzoo.models.text.encoders import TextEncoder

NAME = "words"


@dataclass(frozen=True, kw_only=True)
class WordsConfig(Config):
    seed: int = 0
    width: int = 8

    def build(self) -> Words:
        return Words(self)


class Words(TextEncoder):
    """One token a word between two marks; features depend on the word, its place and the words before it."""

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.width = config.width
        random = torch.Generator().manual_seed(config.seed)
        self.table = nn.Parameter(torch.randn(64, config.width, generator=random))
        self.mix = nn.Parameter(torch.randn(config.width, config.width, generator=random))
        self.places = nn.Parameter(torch.randn(64, config.width, generator=random))
        self.sha256 = weights_sha256(self)

    def tokens(self, caption: str) -> list[int]:
        return [0, *(2 + zlib.crc32(word.encode()) % 62 for word in caption.split()), 1]

    def embed(self, ids: Tensor) -> Tensor:
        x = self.table[ids] + self.places[: ids.shape[1]]
        return (x + x.cumsum(1) / 4) @ self.mix


def add_words(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the encoder under this name, and `other_words` with other weights."""
    registry.names("text_encoder")
    monkeypatch.setitem(registry._entries["text_encoder"], NAME, WordsConfig)
    monkeypatch.setitem(registry._entries["text_encoder"], "other_words", lambda: WordsConfig(seed=1))
    return NAME
