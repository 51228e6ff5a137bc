"""Conditions that a generator accepts although it was never trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, some

KEY = "untrained"
"""Key of the entry in the index of a checkpoint."""


class NeverTrained(UserWarning):
    """A requested condition occurred in no training picture."""


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
