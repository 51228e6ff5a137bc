"""Gaps of a training: classes without a picture, and the null condition that guidance needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from arzoo.base.errors import some
from arzoo.core.control import Control
from arzoo.data.codes import Codes
from arzoo.generation.gaps import Untrained
from arzoo.generation.prompts import PromptReader


def gaps(train: Codes, classes: Sequence[str], label_dropout: float) -> Untrained:
    """Return the conditions that the training does not cover.

    Args:
        train: Codes of the training pictures.
        classes: Classes of the model; none if it reads text alone.
        label_dropout: Share of samples that see the null condition.
    """
    counts = torch.bincount(train.labels.clamp(min=0), minlength=len(train.classes))
    empty = [name for name, count in zip(train.classes, counts.tolist(), strict=False) if not count]
    return Untrained(tuple(empty) if classes else (), null=label_dropout == 0)


def without_guidance(control: Control, untrained: Untrained) -> Control:
    """Return the control of previews and checkpoint, without guidance if the null condition is not trained."""
    return replace(control, guidance=1.0) if untrained.null else control


def in_words(
    untrained: Untrained, classes: int, reader: PromptReader | None, captions: Sequence[str]
) -> dict[str, str]:
    """Describe the gaps for the summary of a training.

    Args:
        untrained: Conditions that the training does not cover.
        classes: Number of classes.
        reader: Encodes captions, where they are the condition; else None.
        captions: Captions of the training pictures.
    """
    remarks = {} if reader is None else {"captions": "; ".join(reader.summary(captions))}
    remarks = {key: text for key, text in remarks.items() if text}
    if untrained.classes:
        remarks["never trained"] = (
            f"{len(untrained.classes)} of {classes} classes, of which there is no training picture: "
            f"{some([*map(repr, untrained.classes)])}"
        )
    if untrained.null:
        remarks["guidance"] = "off, as generator.label_dropout=0 trains no null condition; 0.1 is usual"
    return remarks
