"""Every setting of a config as an option of a verb: `--run.steps INT` for the field `steps` of the field `run`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import tyro

from arzoo.base.config import Config, Named, hints_of, is_config, members_of

_PLACES = {"data": "DATA", "init": "CHECKPOINT", "tokenizer": "TOKENIZER", "codes": "FOLDER"}
"""What help calls values that are paths, or may be."""


def as_options(cls: type[Config]) -> type:
    """A dataclass with an optional text for every setting of a config, to be read by the setting's type.

    Args:
        cls: Class of the config; nested configs become dotted names, what a docstring says of a field its help.
    """
    fields = []
    for path, hint, default, about in _leaves(cls, ()):
        name, shown = ".".join(path).replace("_", "-"), "" if default is None else f" (default: {default})"
        mark = tyro.conf.arg(
            name=name, metavar=_metavar(path, hint), help=about + shown, help_behavior_hint=""
        )
        fields.append(("__".join(path), Annotated[str | None, mark], dataclasses.field(default=None)))
    return dataclasses.make_dataclass(f"{cls.__name__}Options", fields, kw_only=True)


def chosen(options: Any, cls: type[Config]) -> list[str]:
    """What was given of those options, as KEY=VALUE."""
    paths = [path for path, *_ in _leaves(cls, ())]
    values = {".".join(path): getattr(options, "__".join(path)) for path in paths}
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _leaves(cls: type[Config], inside: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any, str]]:
    """Names, type, default and description of all settings that are no groups."""
    hints, about = hints_of(cls), _described(cls)
    for field in dataclasses.fields(cls):
        hint, path = hints[field.name], (*inside, field.name)
        if is_config(hint) and not issubclass(hint, Named):
            yield from _leaves(hint, path)
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            default = made.name if isinstance(made, Named) else made
        yield path, hint, _text(default), about.get(field.name, "")


def _text(default: Any) -> str | None:
    """A default as it would be typed, None for none."""
    if default in (dataclasses.MISSING, "", ()):
        return None
    if isinstance(default, bool):
        return str(default).lower()
    return f"[{', '.join(map(str, default))}]" if isinstance(default, tuple) else str(default)


def _metavar(path: tuple[str, ...], hint: Any) -> str:
    """What help calls the value."""
    member = members_of(hint)[0]
    if typing.get_origin(member) is typing.Literal:
        return "|".join(map(str, typing.get_args(member)))
    if typing.get_origin(member) is tuple:
        return "[VALUE, ...]"
    known = {int: "INT", float: "FLOAT", bool: "true|false", Named: "NAME"}
    return _PLACES.get(path[-1], "TEXT") if member is str else known[member]


def _described(cls: type) -> dict[str, str]:
    """What the docstring of a class, or of what it inherits, says of its attributes."""
    text = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", about) for name, about in entries}
