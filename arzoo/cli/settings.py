"""Options of a verb from the settings of a config: `--run.steps INT` for the field `steps` of the field `run`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import tyro

from arzoo.base.config import Config, Named, hints_of, is_config, members_of

_PLACES = {
    "data": "DATA",
    "init": "CHECKPOINT",
    "tokenizer": "TOKENIZER",
    "codes": "FOLDER",
    "generator": "CHECKPOINT",
}
"""Names in help of values that are or may be paths."""


def as_options(cls: type[Config]) -> type:
    """Create a dataclass with an optional text for every setting of a config, to be parsed by the setting's type.

    Args:
        cls: Class of the config; nested configs become dotted names, descriptions of attributes in docstrings the help.
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
    """Return the typed options as KEY=VALUE."""
    paths = [path for path, *_ in _leaves(cls, ())]
    values = {".".join(path): getattr(options, "__".join(path)) for path in paths}
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _leaves(cls: type[Config], parents: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any, str]]:
    """Names, type, default and description of all settings that are not groups."""
    hints, about = hints_of(cls), _described(cls)
    for field in dataclasses.fields(cls):
        hint, path = hints[field.name], (*parents, field.name)
        if is_config(hint) and not issubclass(hint, Named):
            yield from _leaves(hint, path)
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
            default = default.name if isinstance(default, Named) else default
        yield path, hint, _text(default), about.get(field.name, "")


def _text(default: Any) -> str | None:
    """A default as it would be typed; None if there is none."""
    if default in (dataclasses.MISSING, "", ()):
        return None
    if isinstance(default, bool):
        return str(default).lower()
    return f"[{', '.join(map(str, default))}]" if isinstance(default, tuple) else str(default)


def _metavar(path: tuple[str, ...], hint: Any) -> str:
    """Name of the value in help."""
    member = members_of(hint)[0]
    if typing.get_origin(member) is typing.Literal:
        return "|".join(map(str, typing.get_args(member)))
    if typing.get_origin(member) is tuple:
        return "[VALUE, ...]"
    known = {int: "INT", float: "FLOAT", bool: "true|false", Named: "NAME"}
    return _PLACES.get(path[-1], "TEXT") if member is str else known[member]


def _described(cls: type) -> dict[str, str]:
    """Descriptions of attributes in the docstring of a class or of its base."""
    text = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", about) for name, about in entries}
