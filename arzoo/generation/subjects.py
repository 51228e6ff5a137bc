"""What pictures show, said in one word or many: classes and prompts by name, number and count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.data.base import spread
from arzoo.generation.prompts import takes_text
from arzoo.generation.request import Classes, condition

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

Subjects = str | int | Sequence[str | int] | Tensor
"""Classes by name or number, or prompts: one, or several to be used in turn."""


def requested(
    model: Generator,
    subjects: Subjects | Cond | None = None,
    num: int | None = None,
    *,
    classes: Classes | None = None,
    prompts: Sequence[str] | None = None,
    cond: Cond | None = None,
    exact: bool = False,
) -> tuple[Cond, tuple[str, ...]]:
    """Return the condition of pictures, one row each, and the class or prompt of each, "" where it has neither.

    Args:
        model: The generator.
        subjects: As in `Generator.generate`, like all that follow; or the condition itself.
        num: As there.
        classes: As there.
        prompts: As there.
        cond: As there.
        exact: Whether each picture has a class of its own or a prompt: CLASS alone is not enough where it has styles.

    Raises:
        UnknownName: The model does not know a class.
        ArzooError: What to draw is said twice or not at all, or as `request.condition`.
    """
    if isinstance(subjects, Cond) and cond is None:
        subjects, cond = None, subjects
    others = any(each is not None for each in (classes, prompts, cond))
    num = None if num is None else whole_number(num, "num", least=1)
    if subjects is not None:
        if isinstance(subjects, Cond) or others:
            raise ArzooError(
                "what to draw is given twice: give it first, as in generate('cat-face'), or with one of classes=, "
                "prompts= and cond="
            )
        names = _in_turn(subjects, num)
        if _are_prompts(model, names):
            prompts = [str(name) for name in names]
        else:
            classes = names if exact else _of_all_styles(names, model.classes)
    elif num is not None:
        if not others:
            classes, cond = _of_any_class(model, num)
        classes = None if classes is None else _in_turn(classes, num)
        prompts = None if prompts is None else [str(name) for name in _in_turn(prompts, num)]
        cond = None if cond is None else cond.select(torch.arange(num) % max(cond.batch, 1))
    rows = condition(model, classes, prompts, cond)
    if prompts is not None:
        return rows, tuple(prompts)
    labels = [-1] * rows.batch if rows.label is None else rows.label.tolist()
    return rows, tuple(model.classes[label] if 0 <= label < len(model.classes) else "" for label in labels)


def _of_any_class(model: Generator, num: int) -> tuple[list[str] | None, Cond | None]:
    """Return classes for pictures of nothing in particular, or no class where classes have no names."""
    if model.classes:
        return [model.classes[label] for label in spread(len(model.classes), num)], None
    return None, None if takes_text(model.backbone) else Cond(num)


def _are_prompts(model: Generator, names: Sequence[int | str]) -> bool:
    """Return whether names are texts rather than classes.

    Raises:
        ArzooError: Some are.
    """
    if not takes_text(model.backbone):
        return False
    texts = [name for name in names if isinstance(name, str) and not _styles(name, model.classes)]
    classes = [name for name in names if name not in texts]
    if texts and classes:
        raise ArzooError(
            f"{classes[0]!r} is a class and {texts[0]!r} a text: draw them in two calls, or give all as texts with "
            "prompts=[...]"
        )
    return not classes


def _of_all_styles(names: Sequence[int | str], classes: Sequence[str]) -> list[int | str]:
    """Return the class of every picture: where a name is that of several classes, CLASS/STYLE, each in turn."""
    chosen, seen = list[int | str](), Counter[str]()
    for name in names:
        if isinstance(name, str) and (styles := _styles(name, classes)):
            seen[name] += 1
            name = styles[(seen[name] - 1) % len(styles)]
        chosen.append(name)
    return chosen


def _styles(name: str, classes: Sequence[str]) -> list[str]:
    """Return the class of this name, or all classes CLASS/STYLE of a CLASS; none if there is no such name."""
    return [name] if name in classes else [each for each in classes if each.partition("/")[0] == name]


def _in_turn(names: Subjects | Classes, num: int | None) -> list[int | str]:
    """Return so many names, each in turn; by default each once."""
    listed: Any = names.tolist() if hasattr(names, "tolist") else names
    listed = [*listed] if isinstance(listed, Sequence) and not isinstance(listed, str) else [listed]
    return [listed[i % len(listed)] for i in range(len(listed) if num is None else num)] if listed else []
