"""Subjects of verbs that draw: classes or prompts, and the default models for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arzoo.base.console import note
from arzoo.base.errors import UnknownName, UsageError
from arzoo.cli.knobs import misuse

if TYPE_CHECKING:
    from arzoo.cli.sampling import Sampling
    from arzoo.generation.generator import Generator

DEFAULT_MODEL = "nar_emoji64"
DEFAULT_TEXT_MODEL = "nar_emoji64_text"
"""Also the name of the recipe that trains it."""
SEARCHED_TEXT_MODEL = "ar_ordered_emoji64"
"""The text model whose pictures a search improves most (docs/search.md)."""


def chosen_model(model: str, of_text: bool, text_model: str = DEFAULT_TEXT_MODEL) -> str:
    """Return the named model, or the default one for classes or text."""
    return model or (text_model if of_text else DEFAULT_MODEL)


def text_models() -> str:
    """Return a sentence that lists the models for text."""
    from arzoo.checkpoints.store import entries

    names = [entry.name for entry in entries() if entry.kind == "generator" and entry.index.get("text")]
    return f"Models here that take text: {', '.join(names)}."


def request(command: Sampling, model: Generator) -> tuple[dict[str, Any], list[str]]:
    """Return the conditions as arguments of `Generator.generate`, and the class or prompt of every picture.

    Raises:
        UsageError: The model does not take this kind of condition, or a prompt is empty.
    """
    from arzoo.generation.prompts import takes_text

    reads = takes_text(model.backbone)
    if not reads or (model.classes and not command.prompts):
        if command.prompts:
            raise UsageError(
                f"{command.model} draws classes and reads no text: use --class with it (`arzoo models "
                f"{command.model} --classes` lists them). {text_models()}"
            )
        labels = labels_of(command, model)
        names = [model.classes[label] for label in labels] if model.classes else []
        return {"classes": names or labels}, names or [""] * command.count
    if command.classes:
        raise UsageError(
            f'{command.model} draws what a text says and has no classes; use --prompt "red heart"'
        )
    if not command.prompts:
        raise UsageError(f'{command.model} draws what a text says; say it with --prompt "red heart"')
    if model.text is not None:  # without an encoder, drawing raises an error that explains what to do
        encoder = model.text.encoder  # an encoder that cannot be opened is not wrong use
        with misuse():
            remarks = encoder.remarks(command.prompts, model.text.length)
        for remark in remarks:
            note(remark)
    prompts = [command.prompts[i % len(command.prompts)] for i in range(command.count)]
    return {"prompts": prompts}, prompts


def labels_of(command: Sampling, model: Generator) -> list[int]:
    """Return the label of every picture.

    Raises:
        UsageError: The model has no classes, or lacks a named one.
    """
    from arzoo.data.base import label_of, spread

    if not model.classes:
        if command.classes:
            raise UsageError(f"{command.model} has no classes; leave --class out")
        return [-1] * command.count
    if not command.classes:
        return spread(len(model.classes), command.count)
    with misuse():
        try:
            chosen = [label_of(name, model.classes) for name in command.classes]
        except UnknownName as error:
            raise UsageError(f"{error} `arzoo models {command.model} --classes` lists all.") from error
    return [chosen[i % len(chosen)] for i in range(command.count)]
