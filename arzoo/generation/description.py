"""A generator in a few lines: size, what it draws, plan, tokenizer and knobs."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from arzoo.base import estimate
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
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
        "tokenizer": f"{model.tokenizer_name or 'without a name'}: {_tokens(model.tokenizer.spec)}",
        "device": str(model.device),
        "knobs": ", ".join(f"{name}={value}" for name, value in _knobs(model).items()),
    }
    lines = "\n".join(f"  {name + ':':<11}{text}" for name, text in rows.items())
    return f"Generator of {_size(model)}, {_count(model)} parameters\n{lines}"


def _size(model: Generator) -> str:
    height, width = model.image_size
    frames = model.tokenizer.frames
    return f"{'pictures' if frames == 1 else f'clips of {frames} frames'}, {width} x {height} pixels"


def _count(model: Generator) -> str:
    """Return the number of parameters of the trained networks, the tokenizer's not among them."""
    count = estimate.count(*model.parts.values())
    return f"{count / 1e6:.1f}M" if count >= 1e5 else str(count)


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


def _tokens(spec: TokenSpec) -> str:
    layout = spec.layout
    if isinstance(layout, Grid):
        sides = (layout.t, layout.h, layout.w) if layout.t > 1 else (layout.h, layout.w)
        count = " x ".join(map(str, sides))
    else:
        count = str(layout.size)
    if not spec.discrete:
        return f"{count} vectors of {spec.channels} numbers"
    several = f"{spec.codebooks} x " if spec.codebooks > 1 else ""
    return f"{count} codes, each {several}one of {spec.vocab}"


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
