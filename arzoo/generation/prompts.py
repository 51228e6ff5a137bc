"""Prompts: how a text-conditional generator reads them, and the words of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone

if TYPE_CHECKING:
    from arzoo.models.text.encoders import TextEncoder


class PromptRemark(UserWarning):
    """A prompt is not read as written: it is too long, or has words that the text encoder does not know."""


class PromptReader:
    """The text encoder of a generator: named, not copied; loaded and checked when the first prompt is read.

    Args:
        name: A registered text encoder, as recorded in a checkpoint; a path recorded there is not followed.
        length: Tokens that the generator reads.
        sha256: Hash of the encoder's weights; empty accepts any encoder.
        where: A name or folder to load from instead, given by the user.
    """

    def __init__(self, name: str, length: int = 0, sha256: str = "", where: str = "") -> None:
        self.name, self.length, self.sha256, self.where = name, length, sha256, where
        self._device = torch.device("cpu")

    @staticmethod
    def of(backbone: Backbone, recorded: Mapping[str, str] | None, where: str = "") -> PromptReader | None:
        """Return the reader of a checkpoint; None if the backbone reads no text, or the encoder is unknown.

        Args:
            backbone: The network that reads the features.
            recorded: {"name", "sha256"} of the encoder, as the checkpoint records them.
            where: A name or folder given by the user.

        Raises:
            ArzooError: An encoder is given for a model that reads no text.
        """
        if not takes_text(backbone):
            if where:
                raise ArzooError(
                    f"the model draws classes and reads no text; leave text encoder {where!r} out"
                )
            return None
        recorded = recorded or {}
        name = recorded.get("name") or where
        length, sha256 = backbone.config.text_length, recorded.get("sha256", "")
        return PromptReader(name, length, sha256, where) if name else None

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder.

        Raises:
            ArzooError: It is not installed, not on this machine, or not the one the generator was trained with; or the
                checkpoint names a folder and the user gave none.
        """
        from arzoo.models.text.encoders import open_text_encoder

        source = self.where or self.name
        if not self.where and self.name not in registry.names("text_encoder"):
            raise ArzooError(
                f"the model was trained with text encoder {self.name!r}, which is not registered here "
                "(`arzoo models --kind text_encoder`); a path or an address in a checkpoint is not followed. Say where "
                "it is with --text-encoder (in Python: text=)."
            )
        encoder = open_text_encoder(source)
        if self.sha256 and encoder.sha256 != self.sha256:
            raise ArzooError(
                f"the model was trained with text encoder {self.name!r} ({self.sha256[:12]}), {source!r} here is "
                f"{encoder.sha256[:12]}. Its features mean something else: install the former, or give its "
                "folder with --text-encoder (in Python: text=)."
            )
        self.sha256 = encoder.sha256
        return encoder.to(self._device)

    def to(self, device: torch.device | str) -> PromptReader:
        """Move the encoder, now or when it is loaded; returns itself."""
        self._device = torch.device(device)
        if "encoder" in self.__dict__:
            self.encoder.to(self._device)
        return self

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        """Return a sentence about each prompt that is not read as written; errors as those of `cond`."""
        return self.encoder.remarks(prompts, self.length)

    def summary(self, captions: Sequence[str]) -> list[str]:
        """Return at most two sentences about the captions that are not read as written."""
        return self.encoder.summary(captions, self.length)

    def cond(self, prompts: Sequence[str]) -> Cond:
        """Return the condition, one row per prompt. Prompts are read one by one: rows do not depend on each other.

        Raises:
            ArzooError: A prompt is empty, or the encoder cannot be loaded.
        """
        distinct = list(dict.fromkeys(prompts))
        features, mask = self.encoder(distinct, self.length)
        rows = torch.tensor([distinct.index(prompt) for prompt in prompts], dtype=torch.long)
        return Cond(len(prompts), text=features[rows], text_mask=mask[rows])


def with_style(caption: str, style: str) -> str:
    """Add the style to a caption: "red heart, twemoji"."""
    return f"{caption}, {style}" if style else caption


def class_words(name: str) -> str:
    """Return the words of a class named CLASS or CLASS/STYLE: those of "cat-face/openmoji" are "cat face, openmoji"."""
    subject, _, style = name.partition("/")
    return with_style(subject.replace("-", " ").replace("_", " "), style)


def takes_text(backbone: Backbone) -> bool:
    """Return whether a backbone is conditional on captions rather than classes."""
    return backbone.config.text_width > 0
