"""Conditions that a generator accepts although it was never trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, some
from arzoo.samplers.plans.samples import for_samples

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

KEY = "untrained"
"""Key of the entry in the index of a checkpoint."""


class NeverTrained(UserWarning):
    """A requested condition occurred in no training picture."""


class OtherPlan(NeverTrained):
    """The weights were trained for another order of generation."""


@dataclass(frozen=True)
class Untrained:
    """Gaps in the training of a generator.

    Attributes:
        classes: Names of the classes without a training picture.
        null: Whether training never used the null condition, which guidance needs.
    """

    classes: tuple[str, ...] = ()
    null: bool = False

    @staticmethod
    def of(index: Mapping[str, Any]) -> Untrained:
        """Read the gaps that a checkpoint records; version 0.1 recorded them in the recipe.

        Raises:
            ArzooError: The entry is damaged.
        """
        if KEY not in index:
            settings: Any = index
            for name in ("training", "recipe", "generator"):
                settings = settings.get(name) if isinstance(settings, Mapping) else None
            return Untrained(null=isinstance(settings, Mapping) and settings.get("label_dropout") == 0)
        if not isinstance(index[KEY], dict):
            raise ArzooError(f"{KEY!r} of the index is damaged: {index[KEY]!r}. Copy the checkpoint again.")
        classes = checked(index[KEY].get("classes", []), tuple[str, ...], f"{KEY}.classes")
        return Untrained(classes, checked(index[KEY].get("null", False), bool, f"{KEY}.null"))

    def to_dict(self) -> dict[str, Any]:
        """Return the gaps as plain data for the index; empty if there are none."""
        return {KEY: {"classes": list(self.classes), "null": self.null}} if self.classes or self.null else {}

    def remarks(self, labels: Tensor | None, names: Sequence[str], guided: bool) -> list[str]:
        """Return a sentence about each requested condition that was never trained.

        Args:
            labels: (B,) requested classes, None for a text-conditional model.
            names: Names of all classes.
            guided: Whether guidance mixes in the null condition.
        """
        rows = [] if labels is None else sorted({row for row in labels.tolist() if 0 <= row < len(names)})
        missing = [repr(names[row]) for row in rows if names[row] in self.classes]
        sentences = []
        if missing:
            sentences.append(
                f"the model was trained on no picture of {some(missing)}: what it draws there is a guess"
            )
        if guided and self.null:
            sentences.append(
                "the model was trained without label_dropout, so guidance mixes in a condition that it never saw; "
                "draw with guidance 1"
            )
        return sentences


def same_order(model: Generator) -> bool:
    """Return whether a model draws in an order that its training covered, though by another plan or other options.

    Masked models, which see all known tokens, are trained to go on from any of them. To others an order is another one
    if a token comes at another step or is read from another place.
    """
    if model.backbone.bidirectional:
        return True
    name, options = model.trained_plan
    plan, trained = model.plan((0,)), for_samples(name, model.spec.layout, (0,), **options)
    if plan.layout != trained.layout or not torch.equal(plan.rank, trained.rank):
        return False
    if plan.sources is None or trained.sources is None:
        return plan.sources is trained.sources
    return torch.equal(plan.sources, trained.sources)


def plan_remark(model: Generator) -> str:
    """Return a sentence about a plan that the weights were not trained for; empty if they were."""
    if model.follows_training:
        return ""
    trained = model.trained_plan[0]
    if model.plan_name == trained:
        return f"the model was trained with other options of plan {trained}; with these its pictures may be worse"
    return f"the model was trained with plan {trained}; with {model.plan_name} its pictures may be worse"
