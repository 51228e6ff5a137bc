"""Settings as people type them: KEY=VALUE, where the type of the setting says how its value is read.

A text stays the text that was typed: a folder may be called `2024`, `no` or `pics #1`. Numbers, switches and lists are
written as in YAML, without its guesses: `[4, 4]`, `{lr: 1e-3}`, `true`.
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
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)


def assignments(texts: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Keys and values of texts "KEY=VALUE", in their order.

    Raises:
        UsageError: A text has no key or no "=", or a key occurs twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not KEY=VALUE, for example {option} run.steps=200")
        if key in pairs:
            raise UsageError(f"{key} is set twice, to {pairs[key]!r} and to {value!r}: give it once")
        pairs[key] = value
    return pairs


def typed(text: str, hint: Any, name: str) -> Any:
    """The value that a text stands for where a type is expected.

    Args:
        text: What was typed.
        hint: The type of the setting: text, number, switch, `Literal`, tuple, `Config`, or a union of these.
        name: What the setting is called, for messages.

    Raises:
        ArzooError: It is no such value.
    """
    members = members_of(hint)
    if str in members:
        return None if type(None) in members and text in _NOTHING else text
    return checked(_read(_tree(text, members, name), hint), hint, name)


def _tree(text: str, members: Sequence[Any], name: str) -> Any:
    """The text as lists and mappings of texts, where the type has such; the parser makes nothing of the texts in it."""
    if not any(typing.get_origin(member) is tuple or is_config(member) for member in members):
        return text.strip()
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ArzooError(f"{name}={text!r} cannot be read: {error}") from error


def _read(value: Any, hint: Any) -> Any:
    """Texts in a tree as the values their types say; what fits no type stays, for `checked` to refuse."""
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


def changes(texts: Sequence[str], cls: type[Config], option: str = "--set") -> dict[str, Any]:
    """Nested changes of a config out of texts such as "run.steps=200", each value read as its setting's type.

    Args:
        texts: What was typed.
        cls: Class of the config; what `Config.replace` takes comes back.
        option: The option they were typed behind.

    Raises:
        UsageError: A text is not KEY=VALUE, or a setting is set twice, also as a whole and in part.
        ArzooError: A value is not of its setting's type.
    """
    out: dict[str, Any] = {}
    pairs = assignments(texts, option)
    for key, text in pairs.items():
        *path, last = key.split(".")
        inner, hints = out, hints_of(cls)
        for i, name in enumerate(path):
            if (whole := ".".join(path[: i + 1])) in pairs:
                raise UsageError(f"{whole} is set as a whole and in {key}: give one of them")
            configs = [member for member in members_of(hints.get(name, str)) if is_config(member)]
            inner, hints = inner.setdefault(name, {}), {n: h for c in configs for n, h in hints_of(c).items()}
        # A name that is no setting is refused with the nearest ones where the changes are made.
        inner[last] = typed(text, hints.get(last, str), key)
    return out
