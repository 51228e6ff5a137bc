"""Help of options: their descriptions in the source, and defaults as a user would say them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from typing import Annotated, Any

import tyro

NOTHING = ("None", "", "''")
"""Defaults of options that are not given; their descriptions say what happens then."""
_NUMBERS = {int: "INT", float: "FLOAT"}


def with_help(verb: type) -> type:
    """Return a dataclass with the options of another one, for the parser, whose help has no empty defaults.

    Args:
        verb: A dataclass whose fields have descriptions below them.
    """
    hints, about = typing.get_type_hints(verb, include_extras=True), described(verb)
    annotated: Any = Annotated
    fields = []
    for field in dataclasses.fields(verb):
        hint = hints[field.name]
        plain, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        mark = tyro.conf.arg(
            help=about.get(field.name),
            help_behavior_hint="(required)" if needed else _shown,
            metavar=_metavar(plain),
        )
        # What the field itself says comes later, and counts.
        parts = plain, mark, *marks
        entry = dataclasses.field(default=field.default, default_factory=field.default_factory)
        fields.append((field.name, annotated[parts], entry))
    return dataclasses.make_dataclass(verb.__name__, fields, kw_only=True)


@functools.cache
def described(verb: type) -> dict[str, str]:
    """Return the description of every field, the text below it in the source of the class or of a base, in one line."""
    about: dict[str, str] = {}
    for cls in reversed(verb.__mro__):
        if "__annotations__" not in vars(cls):
            continue
        try:
            source = inspect.getsource(cls)
        except OSError:  # of a class that was made from settings, whose fields bring their own
            continue
        body = ast.parse(textwrap.dedent(source)).body[0]
        assert isinstance(body, ast.ClassDef)
        for entry, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(entry, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = below.value.value if isinstance(below.value, ast.Constant) else ""
                if isinstance(entry.target, ast.Name) and isinstance(text, str):
                    about[entry.target.id] = " ".join(text.split())
    return about


def _shown(default: str) -> str:
    """Say the default, except where nothing is given by default."""
    return "" if default in NOTHING else f"(default: {default})"


def _metavar(hint: Any) -> str | None:
    """Return what stands for the value of a number or choice that need not be given; None leaves it to the parser."""
    members = typing.get_args(hint)
    if type(None) not in members:
        return None
    kind = next(member for member in members if member is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    return _NUMBERS.get(kind)
