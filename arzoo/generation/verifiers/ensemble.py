"""Ensembles of verifiers by name."""

from __future__ import annotations

from collections.abc import Sequence

from arzoo.base.registry import register
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.verifiers.base import Subject, Verifier
from arzoo.samplers.verifiers.ensemble import RankEnsemble, WeightEnsemble


@register("verifier", "ensemble")
class NamedRankEnsemble(RankEnsemble):
    """Mean rank under several verifiers: neither scales nor outliers of one of them decide.

    Args:
        subject: What the members need.
        members: Their names; by default image_text for a prompt or class_probe for a class, and realism.
        weights: One per member; equal by default.
        published: Ties are broken as in the published code instead of shared.
    """

    def __init__(
        self,
        subject: Subject,
        members: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        published: bool = False,
    ) -> None:
        super().__init__(_opened(subject, members), weights, published)


@register("verifier", "weighted")
class NamedWeightEnsemble(WeightEnsemble):
    """Mean score under several verifiers, each scaled to 0..1 within the candidates of a comparison.

    Args:
        subject: What the members need.
        members: Their names; by default those of `ensemble`.
        weights: One per member; equal by default.
    """

    def __init__(
        self, subject: Subject, members: Sequence[str] | None = None, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(_opened(subject, members), weights)


def _opened(subject: Subject, members: Sequence[str] | None) -> list[Verifier]:
    if members is None:
        members = ("image_text" if subject.prompt is not None else "class_probe", "realism")
    return [open_verifier(name, subject) for name in members]
