"""What `arzoo generate` draws: classes or prompts, and the model that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arzoo.base.console import note
from arzoo.base.errors import UsageError
from arzoo.cli.knobs import misuse

if TYPE_CHECKING:
    from arzoo.cli.generate import Generate
    from arzoo.generation.generator import Generator

DEFAULT_MODEL = "nar_emoji64"
DEFAULT_TEXT_MODEL = "nar_emoji64_text"
"""Also the recipe that trains it."""


def chosen_model(model: str, of_text: bool) -> str:
    """The model that was named, or the default one of classes or of text."""
    return model or (DEFAULT_TEXT_MODEL if of_text else DEFAULT_MODEL)


def text_models() -> str:
    """Which models take text."""
    from arzoo.checkpoints.store import entries

    found = [entry.name for entry in entries() if entry.kind == "generator" and entry.index.get("text")]
    return f"Models here that take text: {', '.join(found)}."


def request(wanted: Generate, model: Generator) -> tuple[dict[str, Any], list[str]]:
    """What `Generator.generate` is asked for, and the class or prompt of every picture.

    Raises:
        UsageError: The model takes the other kind of condition, or a prompt is empty.
    """
    from arzoo.generation.prompts import takes_text

    if not takes_text(model.backbone):
        labels = labels_of(wanted, model)
        names = [model.classes[label] for label in labels] if model.classes else []
        return {"classes": names or labels}, names or [""] * wanted.num
    if wanted.classes:
        raise UsageError(
            f'{wanted.model} draws what a text says and has no classes; use --prompt "red heart"'
        )
    if not wanted.prompts:
        raise UsageError(f'{wanted.model} draws what a text says; say it with --prompt "red heart"')
    if model.text is not None:  # without one, drawing explains what to do
        encoder = model.text.encoder  # one that cannot be opened is no misuse
        with misuse():
            remarks = encoder.remarks(wanted.prompts, model.text.length)
        for remark in remarks:
            note(remark)
    prompts = [wanted.prompts[i % len(wanted.prompts)] for i in range(wanted.num)]
    return {"prompts": prompts}, prompts


def labels_of(wanted: Generate, model: Generator) -> list[int]:
    """Label of every picture.

    Raises:
        UsageError: The model has no classes, or not one that was named.
    """
    from arzoo.data.base import label_of

    if wanted.prompts:
        raise UsageError(
            f"{wanted.model} draws classes and reads no text: use --class with it (`arzoo data show emoji64` lists "
            f"those of the shipped models). {text_models()}"
        )
    if not model.classes:
        if wanted.classes:
            raise UsageError(f"{wanted.model} has no classes; leave --class out")
        return [-1] * wanted.num
    if not wanted.classes:
        return [i * len(model.classes) // wanted.num for i in range(wanted.num)]
    with misuse():
        chosen = [label_of(name, model.classes) for name in wanted.classes]
    return [chosen[i % len(chosen)] for i in range(wanted.num)]
