"""A generator in a few lines: size, what it draws, plan, tokenizer and knobs."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from arzoo.base.estimate import parameters_in_words
from arzoo.core.clips import sizes_in_words
from arzoo.core.control import Control
from arzoo.generation.prompts import takes_text
from arzoo.generation.request import used_knobs
from arzoo.samplers.schedules import Stored

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def described(model: Generator) -> str:
    """Return the text that `repr` shows."""
    rows = {
        "draws": _subjects(model),
        "plan": _plan(model),
        "tokenizer": f"{model.tokenizer_name or 'without a name'}: {model.tokenizer.spec}",
        "device": str(model.device),
        "knobs": ", ".join(f"{name}={value}" for name, value in _knobs(model).items()),
    }
    lines = "\n".join(f"  {name + ':':<11}{text}" for name, text in rows.items())
    pictures = sizes_in_words(model.image_size, model.tokenizer.frames)
    return f"Generator of {pictures}, {parameters_in_words(*model.parts.values())}\n{lines}"


def _subjects(model: Generator) -> str:
    count = len(model.classes) or model.backbone.config.classes
    classes = f"{count} classes" + (f", such as {model.classes[0]!r}" if model.classes else "")
    if takes_text(model.backbone):
        return "what a text says" + (f", or {classes}" if model.classes else "")
    return classes if count else "pictures without a condition"


def _plan(model: Generator) -> str:
    options = ", ".join(f"{name}={value}" for name, value in model.plan_options.items() if name != "orders")
    name = f"{model.plan_name} ({options})" if options else model.plan_name
    calls = len(model.plan())
    trained = "" if model.follows_training else f"; its weights were trained with {model.trained_plan[0]}"
    return f"{name}, {calls} network call{'s' if calls > 1 else ''} a picture{trained}"


def _knobs(model: Generator) -> dict[str, Any]:
    """Return the knobs that have an effect, with the model's own values; a schedule by its name and numbers."""
    used = used_knobs(model, model.control) | {"guidance"}
    if any(head.solves for head in model.heads):
        used |= {"interval"}
    values = {field.name: getattr(model.control, field.name) for field in fields(Control)}
    return {name: knob_text(value) for name, value in values.items() if name in used}


def knob_text(value: Any) -> str:
    """Return the value of a knob in words; a schedule by its name and numbers."""
    if isinstance(value, Stored):
        return f"{value.name}({', '.join(knob_text(each) for _, each in value.arguments)})"
    if callable(value):
        return "a schedule"
    return f"{value:g}" if isinstance(value, float) else repr(value)
