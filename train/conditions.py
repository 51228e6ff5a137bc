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
from arzoo.generation.prompts import PromptReader, class_words, with_style


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

    def titles(self, rows: Tensor, classes: Sequence[str]) -> list[str]:
        """Return what is asked for in words, given the names of the classes; nothing where there is no class."""
        return [classes[label] if label >= 0 else "" for label in self.labels[rows].tolist()]


class Captions:
    """Captions as conditions, with and without a word for the style of the picture, or the words of its class.

    Features are kept in memory: a table of all distinct texts, and the rows of every picture in it.

    Args:
        reader: Encodes the captions.
        captions: (n) what the pictures show.
        classes: (n) names of their classes; in CLASS/STYLE the style says how the picture is drawn.
        styled: Share of the samples whose text names the style, so that prompts with and without it work.
        classed: Share of the samples whose text is the words of the class instead.
    """

    def __init__(
        self,
        reader: PromptReader,
        captions: Sequence[str],
        classes: Sequence[str],
        styled: float,
        classed: float,
    ) -> None:
        pairs = zip(captions, classes, strict=True)
        named = (
            [with_style(caption, name.partition("/")[2]) for caption, name in pairs] if styled else captions
        )
        words = [class_words(name) for name in classes] if classed else captions
        self.captions, self.styled, self.classed = list(captions), styled, classed
        places = {text: i for i, text in enumerate(dict.fromkeys([*captions, *named, *words]))}
        self.plain, self.named, self.words = (
            torch.tensor([places[text] for text in texts]) for texts in (captions, named, words)
        )
        self.features, self.mask = reader.encoder(list(places), reader.length, batch=64)

    def cond(self, rows: Tensor, drop: Tensor | None = None, draws: Draws | None = None) -> Cond:
        """Return the condition of some pictures.

        Args:
            rows: (B,) indices of the pictures.
            drop: (B,) bool, pictures that see the null condition.
            draws: Randomness that decides which texts name the style and which are words of classes; without it none.
        """
        texts = self.plain[rows]
        if draws is not None:
            texts = torch.where(draws.uniform((len(rows),)) < self.styled, self.named[rows], texts)
            if (
                self.classed
            ):  # without a share, the draws after this one are those of a training on captions alone
                texts = torch.where(draws.uniform((len(rows),)) < self.classed, self.words[rows], texts)
        return Cond(len(rows), text=self.features[texts], text_mask=self.mask[texts], drop=drop)

    def request(self, rows: Tensor) -> dict[str, Any]:
        """Return the arguments of `Generator.generate` for the same conditions."""
        return {"prompts": self.titles(rows)}

    def titles(self, rows: Tensor, classes: Sequence[str] = ()) -> list[str]:
        """Return what is asked for in words."""
        return [self.captions[row] for row in rows.tolist()]


def conditions(
    data: ImageSet, reader: PromptReader | None, styled: float, classed: float
) -> Labels | Captions:
    """Return the conditions of a data set.

    Args:
        data: The pictures; a class is named CLASS or CLASS/STYLE.
        reader: Encodes captions; None takes classes as conditions.
        styled: Share of the texts that name the style.
        classed: Share of the texts that are words of the class.

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
    classes = [data.classes[label] for label in data.labels.tolist()]
    return Captions(reader, data.captions, classes, styled, classed)
