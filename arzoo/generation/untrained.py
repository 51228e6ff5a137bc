"""What a generator was never trained on and can be asked for all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from arzoo.base.config import checked
from arzoo.base.errors import ArzooError

KEY = "untrained"
"""Where the index of a checkpoint says it."""


class NeverTrained(UserWarning):
    """What is asked for was in no training picture."""


@dataclass(frozen=True)
class Untrained:
    """Gaps of a training.

    Attributes:
        classes: Names of the classes of which it had no picture.
        null: Whether it never saw the null condition, which guidance needs.
    """

    classes: tuple[str, ...] = ()
    null: bool = False

    @staticmethod
    def of(index: Mapping[str, Any]) -> Untrained:
        """The gaps that a checkpoint records; those of version 0.1 say them in their recipe.

        Raises:
            ArzooError: They are damaged.
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
        """The gaps as plain data, for the index; empty where there are none."""
        return {KEY: {"classes": list(self.classes), "null": self.null}} if self.classes or self.null else {}

    def remarks(self, labels: Tensor | None, names: Sequence[str], guided: bool) -> list[str]:
        """A sentence about everything that is asked for and was never trained.

        Args:
            labels: (B,) classes that are asked for, None of a model of text.
            names: Those of all classes.
            guided: Whether guidance mixes in the null condition.
        """
        rows = [] if labels is None else sorted({row for row in labels.tolist() if 0 <= row < len(names)})
        asked = [names[row] for row in rows if names[row] in self.classes]
        found = []
        if asked:
            found.append(
                f"the model was trained on no picture of {some(asked)}: what it draws there is a guess"
            )
        if guided and self.null:
            found.append(
                "the model was trained without label_dropout, so that guidance mixes in a condition that it never saw; "
                "draw with guidance 1"
            )
        return found


def some(names: Sequence[str], count: int = 8) -> str:
    """The first of some names, and how many there are besides."""
    shown = ", ".join(map(repr, names[:count]))
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
