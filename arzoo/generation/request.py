"""Requests to a generator: classes or prompts, seeds, and the division into batches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError, nearest
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.data.base import label_of
from arzoo.generation.prompts import PromptReader, PromptRemark, class_words, takes_text
from arzoo.samplers.plans.about import about

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

Classes = Sequence[int | str] | Tensor
"""Class of each picture, by its name or a number, see `arzoo.data.base.label_of`."""


class NoEffect(UserWarning):
    """A knob was set that none of the heads uses."""


def used_knobs(model: Generator, control: Control) -> frozenset[str]:
    """Return the knobs that some head of a model uses; guidance, which always acts, is not among them."""
    used = frozenset[str]().union(*(head.active_knobs(control.solver) for head in model.heads))
    return used if model.backbone.reads_canvas else used - {"more_smooth"}


def idle_knobs(model: Generator, control: Control) -> list[str]:
    """Return the knobs that differ from the model's own and that none of its heads uses."""
    idle = {field.name for field in fields(Control)} - used_knobs(model, control) - {"guidance", "interval"}
    return sorted(name for name in idle if getattr(control, name) != getattr(model.control, name))


def control_of(
    model: Generator, control: Control | None, knobs: Mapping[str, Any], method: Callable[..., Any]
) -> Control | None:
    """Return the knobs of a request: those of `control`, by default the model's own, with the named ones changed.

    Args:
        model: The generator.
        control: The knobs to begin with.
        knobs: Values of knobs by name; ranges are checked when a run starts.
        method: The method that was called with them, for messages.

    Raises:
        ArzooError: There is no such knob.
    """
    control = model.control if control is None else control
    if not knobs or not isinstance(control, Control):  # which is refused when a run starts
        return control
    names = [field.name for field in fields(Control)]
    for name in set(knobs).difference(names):
        if about(model.plan_name).option(name):
            raise ArzooError(f"{name!r} is an option of the plan: model.with_plan({name}={knobs[name]!r})")
        others = [key for key in inspect.signature(method).parameters if key not in ("self", "knobs")]
        raise ArzooError(
            f"unknown knob {name!r}.{nearest(name, [*names, *others])} Knobs: {', '.join(names)}. Other arguments: "
            f"{', '.join(others)}."
        )
    return replace(control, **knobs)


def condition(
    model: Generator,
    classes: Classes | None = None,
    prompts: Sequence[str] | None = None,
    cond: Cond | None = None,
) -> Cond:
    """Return the condition of pictures, one row each: from classes or prompts, or as given.

    Raises:
        UnknownName: The model does not know a class.
        ArzooError: The model does not take this kind of condition, none or two are given, or one cannot be read.

    Warns:
        PromptRemark: A prompt is cut, or has words that the text encoder does not know.
    """
    given = [names for names in (classes, prompts) if names is not None]
    if cond is not None:
        if given:
            raise ArzooError("give cond, or classes or prompts instead of it")
        return cond
    reads = takes_text(model.backbone)
    fits = reads if classes is None else not reads or bool(model.classes)
    if len(given) != 1 or isinstance(prompts, str) or not fits:
        if not reads:
            takes = "draws classes: give classes=[...], by name or number, and no prompts"
        elif not model.classes:
            takes = "draws what a text says: give prompts=['red heart', ...] and no classes"
        else:
            takes = (
                "draws what a text says, or classes: give either prompts=['red heart', ...] or classes=[...]"
            )
        raise ArzooError(f"this model {takes}")
    if classes is not None:
        return of_labels(model, _labels(classes, model.classes))
    assert prompts is not None
    return _of_prompts(model, prompts)


def of_labels(model: Generator, labels: Tensor) -> Cond:
    """Return the condition of classes (n,) int64; a model of texts reads the words of each class.

    Raises:
        ArzooError: The text encoder of a model of texts cannot be loaded.
    """
    if not takes_text(model.backbone):
        return Cond(len(labels), label=labels)
    cond = reader_of(model).cond([class_words(model.classes[label]) for label in labels.tolist()])
    return replace(cond, label=labels)


def _of_prompts(model: Generator, prompts: Sequence[str]) -> Cond:
    if not len(prompts):
        raise ArzooError("give the prompt of every picture, such as ['red heart']; got none")
    reader = reader_of(model)
    for remark in reader.remarks(prompts):
        warnings.warn(remark, PromptRemark, stacklevel=5)  # where the pictures are requested
    return reader.cond(prompts)


def reader_of(model: Generator) -> PromptReader:
    """Return what reads the texts of a model.

    Raises:
        ArzooError: The model does not say what.
    """
    if model.text is None:
        raise ArzooError(
            "the model does not say which text encoder it was trained with. Name it with --text-encoder (in "
            "Python: Generator.load(..., text=)); see `arzoo models --kind text_encoder`."
        )
    return model.text


def _labels(requested: Classes, classes: Sequence[str]) -> Tensor:
    """Return labels (n,) int64 of classes given by name or number, see `label_of`."""
    names = requested.tolist() if isinstance(requested, Tensor) else requested
    if isinstance(names, str) or not isinstance(names, Iterable) or not (names := list(names)):
        raise ArzooError(f"give the class of every picture, such as [0, 1]; got {requested!r}")
    rows = [label_of(name, classes) for name in names]
    return torch.tensor(rows, dtype=torch.long)


def seeds_of(cond: Cond, seed: int, seeds: Sequence[int] | None) -> list[int]:
    """Return the seed of each picture: as given, or a hash of the request's seed and the picture's number.

    Raises:
        ArzooError: The number of seeds is not that of the pictures, there are no pictures, or a seed is not an integer.
    """
    if not cond.batch:
        raise ArzooError("no picture is requested: the condition has no rows; give one row per picture")
    if seeds is None:
        request = whole_number(seed, "the seed")
        return [sample_seed(request, i) for i in range(cond.batch)]
    if len(seeds) != cond.batch:
        raise ArzooError(
            f"{cond.batch} classes or prompts but {len(seeds)} seeds; give one seed per picture, or leave seeds out"
        )
    return [whole_number(each, "the seed of a picture") for each in seeds]


def batches(count: int, size: int, given: Tokens | None) -> list[Tensor]:
    """Divide pictures into batches of indices; all pictures of a batch have equally many given tokens."""
    amounts = torch.zeros(count, dtype=torch.long) if given is None else given.given.sum(1).cpu()
    order = amounts.argsort(stable=True)
    sizes = amounts[order].unique_consecutive(return_counts=True)[1]
    return [part for equal in order.split(sizes.tolist()) for part in equal.split(size)]
