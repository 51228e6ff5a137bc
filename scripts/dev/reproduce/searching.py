"""Searches for pictures of several classes, and what judges say of pictures."""

from __future__ import annotations

import statistics
from typing import Any

from scorer import over_seeds
from torch import Tensor

from arzoo.base.runtime import sample_seed
from arzoo.generation.generator import Generator
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.verifiers.base import PictureVerifier, Subject, Verifier


def measured(
    model: Generator,
    way: Search,
    classes: list[int],
    verifiers: list[Any],
    judges: list[Any],
    seed: int,
) -> dict[str, float]:
    """Mean figures of the pictures of one seed, one of every class.

    Args:
        model: The generator.
        way: How to search.
        classes: What for.
        verifiers: Of every class, the one that ranks.
        judges: Of every class, the one that judges.
        seed: The seed.
    """
    rows = []
    for i, (label, verifier, judge) in enumerate(zip(classes, verifiers, judges, strict=True)):
        result = model.search(way, verifier, classes=[label], seeds=[sample_seed(seed, i)])
        assert isinstance(judge, PictureVerifier)
        assert result.pictures is not None
        images = result.pictures[0]
        spent = {name: float(getattr(result.spent, name)) for name in ("seconds", "decodes", "network_calls")}
        rows.append({
            "judge": float(judge.score_images(images)[0]), "verifier": float(verifier.score_images(images)[0]), **spent,
        })  # fmt: skip
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def summary(figures: list[dict[str, float]]) -> dict[str, float | None]:
    """Means of the figures over seeds, and their standard errors, None for one seed."""
    row: dict[str, float | None] = {}
    for name in figures[0]:
        row[name], row[f"{name}_error"] = over_seeds([each[name] for each in figures])
    return row


def opened(verifiers: dict[str, dict[str, Any]], subject: Subject) -> list[Verifier]:
    """Open verifiers for what is to be drawn, see `scores_of`."""
    return [
        open_verifier(name.partition(":")[0], subject, **settings) for name, settings in verifiers.items()
    ]


def scores_of(judges: dict[str, dict[str, Any]], images: Tensor, subject: Subject) -> dict[str, Tensor]:
    """Scores (n,) float64 of pictures (n, H, W, 3) uint8.

    Args:
        judges: Settings of verifiers, each by its name, or by what tells it from another of the name: "NAME:WHAT".
        images: The pictures.
        subject: What they are to show.
    """
    scores = {}
    for name, judge in zip(judges, opened(judges, subject), strict=True):
        assert isinstance(judge, PictureVerifier)
        scores[name] = judge.score_images(images).double()
    return scores
