"""What all options have in common: none is lost when it is given twice, and all that are paths are read alike."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from arzoo.base.errors import UsageError
from arzoo.base.paths import expanded

T = TypeVar("T")

PLACES = frozenset(
    {"FOLDER", "[FOLDER ...]", "MODEL", "CHECKPOINT", "TOKENIZER", "ENCODER", "SAMPLES", "DATA", "RECIPE", "NAMES",
     "[PATTERN ...]", "PICTURE", "PICTURES [PICTURES ...]", "PNG", "NPZ", "SRC", "DST", "auto|never|PATH"}
)  # fmt: skip
"""What help calls the options and arguments that are paths, or may be: `~` and variables are filled in."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option or argument of a verb.

    Attributes:
        field: Its field.
        name: What is typed behind the dashes; empty for an argument without a name.
        metavar: What help calls its value.
        many: Whether it takes several values.
        switch: Whether it takes none.
    """

    field: str
    name: str
    metavar: str
    many: bool
    switch: bool


def options(verb: type) -> Iterator[Option]:
    """The options and arguments of a verb, in their order."""
    import tyro

    hints = typing.get_type_hints(verb, include_extras=True)
    positional = typing.get_args(tyro.conf.Positional[str])[1]
    for field in dataclasses.fields(verb):
        kind, name, metavar = hints[field.name], field.name.replace("_", "-"), ""
        plain = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
        for mark in getattr(kind, "__metadata__", ()):
            name = getattr(mark, "name", None) or name
            metavar = getattr(mark, "metavar", None) or metavar
            name = "" if mark == positional else name
        yield Option(field.name, name, metavar, typing.get_origin(plain) is tuple, plain is bool)


def gathered(typed: Sequence[str], verbs: Sequence[type]) -> list[str]:
    """What was typed, with the values of every option that takes several in one place.

    The parser would keep those that were typed last and forget the others.

    Args:
        typed: What follows the verb.
        verbs: Classes of the options.

    Raises:
        UsageError: An option that takes one value is given twice.
    """
    known = {option.name: option for verb in verbs for option in options(verb) if option.name}
    named: dict[str, list[list[str]]] = {}
    rest: list[str] = []
    texts = list(typed)
    while texts and texts[0] != "--":
        name, equals, value = texts[0].removeprefix("--").partition("=")
        option = known.get(name.replace("_", "-")) if texts[0].startswith("--") else None
        if option is None or option.switch:
            rest.append(texts.pop(0))
            continue
        texts.pop(0)
        values = [value] if equals else []
        while texts and not texts[0].startswith("--") and (option.many or not values):
            values.append(texts.pop(0))
        named.setdefault(option.name, []).append(values)
    for name, times in named.items():
        if len(times) > 1 and not known[name].many:
            said = " and ".join(repr(" ".join(values)) for values in times)
            raise UsageError(f"--{name} is given {len(times)} times, as {said}: give it once")
        rest += [f"--{name}", *(value for values in times for value in values)]
    return [*rest, *texts]


def with_paths(command: T) -> T:
    """The options of a verb with their paths filled in, see `expanded`."""
    changes: dict[str, Any] = {}
    for option in options(type(command)):
        value = getattr(command, option.field)
        if option.metavar in PLACES and value:
            changes[option.field] = tuple(map(expanded, value)) if option.many else expanded(value)
    return dataclasses.replace(command, **changes)  # type: ignore[type-var]
