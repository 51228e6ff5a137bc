"""Rules for all options: none is lost when it is given twice, paths are expanded, and numbers have lower limits."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from arzoo.base.errors import UsageError
from arzoo.base.paths import expanded

T = TypeVar("T")

PLACES = frozenset(
    {"FOLDER", "[FOLDER ...]", "MODEL", "CHECKPOINT", "TOKENIZER", "ENCODER", "SAMPLES", "DATA", "RECIPE", "NAMES",
     "[PATTERN ...]", "PICTURE", "PICTURES [PICTURES ...]", "PNG", "FILE", "NPZ", "SRC", "DST", "VOLUME",
     "auto|never|PATH"}
)  # fmt: skip
"""Names in help of options and arguments that are or may be paths: `~` and variables in them are expanded."""


SETTINGS = "set"
"""Name of the option that takes settings as KEY=VALUE."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option or argument of a verb.

    Attributes:
        field: Name of the field.
        name: Name typed after the dashes; empty for a positional argument.
        metavar: Name of the value in help.
        many: Whether it takes several values.
        switch: Whether it takes no value.
    """

    field: str
    name: str
    metavar: str
    many: bool
    switch: bool


def options(verb: type) -> Iterator[Option]:
    """Yield the options and arguments of a verb in their order."""
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
    """Merge repeated options that take several values; the parser would use only the last ones.

    A setting of a named part, `--model.width 96`, becomes `--set model.width=96`: the parser does not know its name,
    which depends on the part.

    Args:
        typed: Arguments after the verb.
        verbs: Classes of the options.

    Returns:
        The arguments for the parser.

    Raises:
        UsageError: An option that takes one value is given twice.
    """
    known = {option.name: option for verb in verbs for option in options(verb) if option.name}
    named: dict[str, list[list[str]]] = {}
    rest: list[str] = []
    texts = list(typed)
    while texts and texts[0] != "--":
        name, equals, value = texts[0].removeprefix("--").partition("=")
        typed_name = texts[0].startswith("--")
        option = known.get(name.replace("_", "-")) if typed_name else None
        part, dot, _ = name.partition(".")
        setting_of_part = typed_name and option is None and dot and part in known and SETTINGS in known
        if setting_of_part and (equals or len(texts) > 1):
            texts.pop(0)
            value = value if equals else texts.pop(0)
            named.setdefault(SETTINGS, []).append([f"{name.replace('-', '_')}={value}"])
            continue
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
            occurrences = " and ".join(repr(" ".join(values)) for values in times)
            raise UsageError(f"--{name} is given {len(times)} times, as {occurrences}: give it once")
        rest += [f"--{name}", *(value for values in times for value in values)]
    return [*rest, *texts]


def with_paths(command: T) -> T:
    """Return the options of a verb with paths expanded, see `expanded`."""
    changes: dict[str, Any] = {}
    for option in options(type(command)):
        value = getattr(command, option.field)
        if option.metavar in PLACES and value:
            changes[option.field] = tuple(map(expanded, value)) if option.many else expanded(value)
    return dataclasses.replace(command, **changes)  # type: ignore[type-var]


def refuse_below(command: object, **least: int) -> None:
    """Raise a UsageError if a number of a verb, given by the name of its field, is less than its smallest value.

    A number that is None is not given.
    """
    for name, smallest in least.items():
        value = getattr(command, name)
        if value is not None and value < smallest:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {smallest}, got {value}")


def refuse_others(command: Any, kept: Collection[str], reason: str) -> None:
    """Raise a UsageError if options are given that mean nothing for what is asked, rather than leave them out.

    Args:
        command: The verb.
        kept: Names of the fields that mean something.
        reason: Why the others do not, and what there is, without a full stop.
    """
    given = [
        f"--{field.name.replace('_', '-')}"
        for field in dataclasses.fields(command)
        if field.name not in kept and getattr(command, field.name) != field.default
    ]
    if given:
        raise UsageError(f"{', '.join(given)}: {reason}")
