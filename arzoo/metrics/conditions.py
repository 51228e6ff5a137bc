"""What a generator draws to be scored: the classes or captions of reference pictures, or each class equally often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UsageError, some
from arzoo.base.paths import expanded
from arzoo.data.scored_clips import Frames
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text
from arzoo.metrics.reference import data_split, pictures_of
from arzoo.metrics.samples import balanced, drawn_like

if TYPE_CHECKING:
    from arzoo.metrics.subject import Request

DRAWN = 1000
"""Default number of pictures that a generator draws."""


def to_draw(
    request: Request, model: Generator, name: str, split: str, part: Frames | None = None
) -> tuple[Tensor | Sequence[str], str, list[str]]:
    """Choose classes or captions, as the request says; returns as `classes_to_draw`.

    Raises:
        UsageError: The generator does not draw what the request says.
        ArzooError: It draws captions alone, and the reference has none.
    """
    reads, num = takes_text(model.backbone), request.num or DRAWN
    kinds = ["captions"] * reads + ["classes"] * (not reads or bool(model.classes))
    if request.by not in ("auto", *kinds):
        raise UsageError(
            f"{request.samples} draws {kinds[0]} and no {request.by}: leave --by {request.by} out"
        )
    if request.by != "auto":
        kinds = [request.by]
    captions = captions_of(model, name, split, part) if "captions" in kinds else None
    if captions is None and "classes" in kinds:
        return classes_to_draw(model, name, split, num, part)
    return captions_to_draw(model, name, captions, num)


def classes_to_draw(
    model: Generator, name: str, split: str, num: int, part: Frames | None = None
) -> tuple[Tensor, str, list[str]]:
    """Choose classes: those of reference pictures if the model knows them all, else equally many of each.

    Returns:
        The classes, the rule in words, and remarks for readers.
    """
    words = None
    if model.classes and Path(name).suffix != ".npz":
        words = pictures_of(name, split, model.tokenizer.image_size, part=part).labels
    if not words:
        return *balanced(len(model.classes), num), []
    if unknown := sorted(set(words) - set(model.classes)):
        note = f"classes are drawn evenly: the reference has others than the model, {some([*map(repr, unknown)], 3)}"
        return *balanced(len(model.classes), num), [note]
    labels = {word: label for label, word in enumerate(model.classes)}
    return *drawn_like(torch.tensor([labels[word] for word in words]), num), []


def captions_of(model: Generator, name: str, split: str, part: Frames | None = None) -> Sequence[str] | None:
    """Return the captions of reference pictures; None if they have none."""
    if name in registry.names("dataset") or Path(expanded(name)).is_dir():
        return data_split(name, split, model.tokenizer.image_size[0], part).captions
    return None


def captions_to_draw(
    model: Generator, name: str, captions: Sequence[str] | None, num: int
) -> tuple[Sequence[str], str, list[str]]:
    """Choose captions of reference pictures; returns as `classes_to_draw`.

    Raises:
        ArzooError: The reference has no captions.
    """
    if captions is None:
        raise ArzooError(
            f"the model draws what a text says, and reference {name!r} has no captions to draw. Give --reference a "
            "data set that has them, such as emoji64."
        )
    chosen, rule = drawn_like(captions, num)
    assert model.text is not None
    return chosen, rule, model.text.summary(chosen)
