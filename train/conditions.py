"""Conditions of training pictures: their classes, or features of their captions, made once by a frozen text encoder."""

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
    """The class of every picture.

    Args:
        labels: (n,) int64.
    """

    captions: Sequence[str] = ()

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def cond(self, rows: Tensor, drop: Tensor | None = None, draws: Draws | None = None) -> Cond:
        """Condition of some pictures; `drop` (B,) marks those that see the null condition."""
        return Cond(len(rows), label=self.labels[rows], drop=drop)

    def request(self, rows: Tensor) -> dict[str, Any]:
        """Arguments of `Generator.generate` that ask for such pictures."""
        return {"cond": self.cond(rows)}


class Captions:
    """The caption of every picture, with and without a word for its style.

    Features stay in memory: a table of all different texts, and for every picture where its two texts are in it.

    Args:
        reader: Reads them.
        captions: (n) what the pictures show.
        styles: (n) how they are drawn, empty where unknown.
        styled: Share of the samples whose text names the style, so that prompts with and without it work.
    """

    def __init__(
        self, reader: PromptReader, captions: Sequence[str], styles: Sequence[str], styled: float = 0.5
    ) -> None:
        pairs = zip(captions, styles, strict=True)
        named = [with_style(caption, style) for caption, style in pairs] if styled else captions
        self.captions, self.styled = list(captions), styled
        places = {text: i for i, text in enumerate(dict.fromkeys([*captions, *named]))}
        self.plain, self.named = (torch.tensor([places[t] for t in texts]) for texts in (captions, named))
        self.features, self.mask = reader.encoder(list(places), reader.length, batch=64)

    def cond(self, rows: Tensor, drop: Tensor | None = None, draws: Draws | None = None) -> Cond:
        """Condition of some pictures.

        Args:
            rows: (B,) which.
            drop: (B,) bool, those that see the null condition.
            draws: Decide which texts name the style; without them none does.
        """
        texts = self.plain[rows]
        if draws is not None:
            texts = torch.where(draws.uniform((len(rows),)) < self.styled, self.named[rows], texts)
        return Cond(len(rows), text=self.features[texts], text_mask=self.mask[texts], drop=drop)

    def request(self, rows: Tensor) -> dict[str, Any]:
        """Arguments of `Generator.generate` that ask for such pictures."""
        return {"prompts": [self.captions[row] for row in rows.tolist()]}


def with_style(caption: str, style: str) -> str:
    """A caption that names the style: "red heart, twemoji"."""
    return f"{caption}, {style}" if style else caption


def conditions(data: ImageSet, reader: PromptReader | None, styled: float) -> Labels | Captions:
    """What a generator is told of every picture.

    Args:
        data: The pictures; a class is named CLASS or CLASS/STYLE.
        reader: Of captions; None for classes.
        styled: Share of the texts that name the style.

    Raises:
        ArzooError: Captions are to be read, and the data set or one of its pictures has none.
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
