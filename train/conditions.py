"""Conditions of training pictures: their classes, or features of their captions from a frozen text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.data.base import ImageSet
from arzoo.generation.prompts import PromptReader


class Labels:
    """Classes as conditions.

    Args:
        labels: (n,) int64.
    """

    captions: Sequence[str] = ()

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def cond(self, rows: Tensor, drop: Tensor | None = None, draws: Draws | None = None) -> Cond:
        """Return the condition of pictures `rows` (B,); `drop` (B,) bool marks those that see the null condition."""
        return Cond(len(rows), label=self.labels[rows], drop=drop)

    def request(self, rows: Tensor) -> dict[str, Any]:
        """Return the arguments of `Generator.generate` for the same conditions."""
        return {"cond": self.cond(rows)}


class Captions:
    """Captions as conditions, with and without a word for the style of the picture.

    Features are kept in memory: a table of all distinct texts, and the two rows of every picture in it.

    Args:
        reader: Encodes the captions.
        captions: (n) what the pictures show.
        styles: (n) how the pictures are drawn; empty where unknown.
        styled: Share of the samples whose text names the style, so that prompts with and without it work.
    """

    def __init__(
        self, reader: PromptReader, captions: Sequence[str], styles: Sequence[str], styled: float
    ) -> None:
        pairs = zip(captions, styles, strict=True)
        named = [with_style(caption, style) for caption, style in pairs] if styled else captions
        self.captions, self.styled = list(captions), styled
        places = {text: i for i, text in enumerate(dict.fromkeys([*captions, *named]))}
        self.plain, self.named = (torch.tensor([places[t] for t in texts]) for texts in (captions, named))
        self.features, self.mask = reader.encoder(list(places), reader.length, batch=64)

    def cond(self, rows: Tensor, drop: Tensor | None = None, draws: Draws | None = None) -> Cond:
        """Return the condition of some pictures.

        Args:
            rows: (B,) indices of the pictures.
            drop: (B,) bool, pictures that see the null condition.
            draws: Randomness that decides which texts name the style; without it none does.
        """
        texts = self.plain[rows]
        if draws is not None:
            texts = torch.where(draws.uniform((len(rows),)) < self.styled, self.named[rows], texts)
        return Cond(len(rows), text=self.features[texts], text_mask=self.mask[texts], drop=drop)

    def request(self, rows: Tensor) -> dict[str, Any]:
        """Return the arguments of `Generator.generate` for the same conditions."""
        return {"prompts": [self.captions[row] for row in rows.tolist()]}


def with_style(caption: str, style: str) -> str:
    """Add the style to a caption: "red heart, twemoji"."""
    return f"{caption}, {style}" if style else caption


def conditions(data: ImageSet, reader: PromptReader | None, styled: float) -> Labels | Captions:
    """Return the conditions of a data set.

    Args:
        data: The pictures; a class is named CLASS or CLASS/STYLE.
        reader: Encodes captions; None takes classes as conditions.
        styled: Share of the texts that name the style.

    Raises:
        ArzooError: There is a reader, and the data set or one of its pictures has no caption.
    """
    if reader is None:
        return Labels(data.labels)
    if data.captions is None:
        raise ArzooError(
            f"data set {data.name!r} has no captions to train on. Leave `text` of the recipe empty to train on its "
            "classes, or take a data set with captions such as emoji64."
        )
    without = [row for row, caption in enumerate(data.captions) if not caption.strip()]
    if without:
        first = data.files[without[0]] if data.files else f"number {without[0]}"
        raise ArzooError(
            f"{len(without)} of {len(data)} pictures of {data.name!r} have no caption to train on, the first: {first}. "
            "Give them one, or take them out of the folder."
        )
    styles = [data.classes[label].partition("/")[2] for label in data.labels.tolist()]
    return Captions(reader, data.captions, styles, styled)
