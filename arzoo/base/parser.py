"""Parser of settings typed as KEY=VALUE, where the type of the setting decides how its value is read.

The value of a text setting is used as typed: a folder may be called `2024`, `no` or `pics #1`. Numbers, booleans and
lists are written as in YAML, without its guesses: `[4, 4]`, `{lr: 1e-3}`, `true`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from arzoo.base.config import Config, checked, hints_of, is_config, members_of
from arzoo.base.errors import ArzooError, UsageError

_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOTHING = ("null", "none", "~")
_WHOLE = re.compile(r"[-+]?\d{1,4300}", re.ASCII)  # Python converts no longer ones


def assignments(
    texts: Sequence[str], option: str = "--set", example: str = "run.steps=200"
) -> dict[str, str]:
    """Split texts "KEY=VALUE" into keys and values; the order is kept.

    Args:
        texts: The texts.
        option: The option that takes them, for the message.
        example: One of them, for the message.

    Raises:
        UsageError: A text has no key or no "=", or a key occurs twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not KEY=VALUE, for example {option} {example}")
        if key in pairs:
            raise UsageError(f"{key} is set twice, to {pairs[key]!r} and to {value!r}: give it once")
        pairs[key] = value
    return pairs


def named(text: str, option: str, example: str) -> tuple[str, dict[str, str]]:
    """Split a text "NAME:KEY=VALUE,KEY=VALUE" into the name and the settings; arguments and errors as `assignments`."""
    name, _, settings = text.partition(":")
    return name, assignments(settings.split(",") if settings else [], option, example)


def typed(text: str, hint: Any, name: str) -> Any:
    """Parse a text as a value of a type.

    Args:
        text: The text as typed.
        hint: Type of the setting: text, number, bool, `Literal`, tuple, `Config`, or a union of these.
        name: Name of the setting, for messages.

    Raises:
        ArzooError: The text is no value of that type.
    """
    members = members_of(hint)
    if str in members:
        return None if type(None) in members and text in _NOTHING else text
    return checked(plain(text, hint, name), hint, name)


def plain(text: str, hint: Any, name: str) -> Any:
    """Parse a text as the plain data of a type: a mapping for a `Config`, possibly incomplete and not yet checked."""
    return _read(_tree(text, members_of(hint), name), hint)


def _tree(text: str, members: Sequence[Any], name: str) -> Any:
    """Parse lists and mappings where the type has them; the texts inside are left as they are."""
    if not any(typing.get_origin(member) is tuple or is_config(member) for member in members):
        return text.strip()
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ArzooError(f"{name}={text!r} cannot be read: {error}") from error


def _read(value: Any, hint: Any) -> Any:
    """Convert texts in a tree to values of their types; text that fits no type is left for `checked` to refuse."""
    members = members_of(hint)
    if isinstance(value, Mapping):
        hints = {name: h for cls in members if is_config(cls) for name, h in hints_of(cls).items()}
        return {key: _read(v, hints.get(key, str)) for key, v in value.items()}
    if isinstance(value, list):
        inner = next(
            (typing.get_args(member) for member in members if typing.get_origin(member) is tuple), ()
        )
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        return [_read(v, h) for v, h in zip(value, inner, strict=True)] if len(inner) == len(value) else value
    return _scalar(value, members) if isinstance(value, str) else value


def _scalar(text: str, members: Sequence[Any]) -> Any:
    choices = [choice for member in members for choice in typing.get_args(member) if _is_literal(member)]
    for choice in choices:
        if text == str(choice):
            return choice
    if str in members:
        return text
    if type(None) in members and text.lower() in _NOTHING:
        return None
    if bool in members and text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    if int in members and _WHOLE.fullmatch(text):
        return int(text)
    if float in members:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _is_literal(member: Any) -> bool:
    return typing.get_origin(member) is typing.Literal


def changes(texts: Sequence[str], cls: type[Config]) -> dict[str, Any]:
    """Parse texts such as "run.steps=200" into nested changes of a config.

    Args:
        texts: The texts as typed.
        cls: Class of the config.

    Returns:
        Arguments of `Config.replace`.

    Raises:
        UsageError: A text is not KEY=VALUE, a setting is set twice, or a setting and a part of it are both set.
        ArzooError: A value does not have its setting's type.
    """
    out: dict[str, Any] = {}
    pairs = assignments(texts)
    for key, text in pairs.items():
        *path, last = key.split(".")
        inner, hints = out, hints_of(cls)
        for i, name in enumerate(path):
            if (parent := ".".join(path[: i + 1])) in pairs:
                raise UsageError(f"{parent} is set as a whole and in {key}: give one of them")
            configs = [member for member in members_of(hints.get(name, str)) if is_config(member)]
            inner, hints = inner.setdefault(name, {}), {n: h for c in configs for n, h in hints_of(c).items()}
        # `Config.replace` refuses unknown names and suggests the nearest ones.
        inner[last] = typed(text, hints.get(last, str), key)
    return out
