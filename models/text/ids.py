"""Text as ids: the condition of networks that embed them themselves.

"Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025, reads the name of a class, split into
lower-case words, as ids of LLaMA-2's tokenizer. Small models read bytes ("ByT5: Towards a token-free future with
pre-trained byte-to-byte models", 2021), which need no vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256
from arzoo.base.paths import expanded
from arzoo.base.registry import register
from arzoo.models.text.encoders import TextEncoder, not_empty

BEGIN, END = "<s>", "</s>"
"""Tokens before a text, and in the place of padding after it."""


@dataclass(frozen=True, kw_only=True)
class TextIdsConfig(Config):
    """Settings of `TextIds`.

    Attributes:
        source: The tokenizer.json of LLaMA-2, or of another tokenizer with the same tokens for begin and end.
    """

    source: str = ""

    def build(self) -> TextIds:
        """Read the tokenizer."""
        return TextIds(self)


class TextIds(TextEncoder):
    """Ids (B, L) int64 of captions: a begin token, the words, and end tokens as padding, which the model sees.

    Raises:
        MissingPackage: tokenizers is not installed.
        ArzooError: No file is given, or it is no such tokenizer.
    """

    width = 1

    def __init__(self, config: TextIdsConfig) -> None:
        super().__init__()
        self.config, self.path = config, expanded(config.source)
        if not config.source:
            raise ArzooError(
                "this model reads texts as ids of LLaMA-2's tokenizer, which arzoo does not include. Get its "
                "tokenizer.json, for example with: hf download meta-llama/Llama-2-7b-hf tokenizer.json. Then give the "
                "file with --text-encoder FILE (in Python: text=)."
            )
        tokenizers = require("tokenizers", "text")
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises bare exceptions for all that can be wrong
            raise ArzooError(f"{self.path} cannot be read as a tokenizer.json ({error})") from error
        self.marks = [self.tokenizer.token_to_id(mark) for mark in (BEGIN, END)]
        if None in self.marks:
            raise ArzooError(f"the tokenizer {self.path} has no tokens {BEGIN} and {END}, as LLaMA's has")
        self.sha256 = file_sha256(self.path)

    def tokens(self, caption: str) -> list[int]:
        """Ids of a caption with the begin token; a name such as ApplyEyeMakeup is read as three words."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", caption).lower()
        return [self.marks[0], *self.tokenizer.encode(words, add_special_tokens=False).ids]

    def embed(self, ids: Tensor) -> Tensor:
        """The ids themselves."""
        return ids

    def forward(self, captions: Sequence[str], length: int, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Return ids (B, L) and a mask (B, L) that is True everywhere; longer captions are cut."""
        ids = torch.full((len(captions), length), self.marks[1])
        for row, caption in enumerate(captions):
            some = self.tokens(not_empty(caption))[:length]
            ids[row, : len(some)] = torch.tensor(some)
        return ids, torch.ones_like(ids, dtype=torch.bool)


PADDING = 256
"""Id in the place of padding before a text of bytes."""


@dataclass(frozen=True, kw_only=True)
class BytesConfig(Config):
    """Settings of `Bytes`: none."""

    def build(self) -> Bytes:
        """Build the encoder, which has no weights."""
        return Bytes(self)


class Bytes(TextEncoder):
    """Ids (B, L) int64 of captions: the bytes of their UTF-8, with padding on the left."""

    width = 1
    sha256 = hashlib.sha256(b"UTF-8").hexdigest()

    def __init__(self, config: BytesConfig) -> None:
        super().__init__()
        self.config = config

    def tokens(self, caption: str) -> list[int]:
        """Bytes of a caption."""
        return list(caption.encode())

    def text(self, ids: Sequence[int]) -> str:
        """The text of bytes; those that are no UTF-8, such as half a letter, are shown as U+FFFD."""
        return bytes(ids).decode(errors="replace")

    def embed(self, ids: Tensor) -> Tensor:
        """The ids themselves."""
        return ids

    def forward(self, captions: Sequence[str], length: int, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Return ids (B, L) and a mask (B, L), False at padding; of longer captions the first bytes count."""
        ids = torch.full((len(captions), length), PADDING)
        for row, caption in enumerate(captions):
            some = self.tokens(not_empty(caption))[:length]
            ids[row, length - len(some) :] = torch.tensor(some)
        return ids, ids != PADDING


@register("text_encoder", "bytes")
def utf8_bytes() -> BytesConfig:
    """Bytes of UTF-8, read by small models that learn to read themselves."""
    return BytesConfig()


@register("text_encoder")
def llama2_ids() -> TextIdsConfig:
    """Ids of LLaMA-2's tokenizer, read by the text models of NBP; needs its tokenizer.json."""
    return TextIdsConfig()
