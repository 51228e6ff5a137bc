"""Help of every verb: what each option means, and what is used where it is not given."""

from __future__ import annotations

import dataclasses
import importlib
import re

import pytest
from command import command

from arzoo.cli.__main__ import VERBS, Common
from arzoo.cli.help import described, with_help


def verb_of(name: str) -> type:
    return getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize())


def help_of(capsys, monkeypatch, name: str) -> str:
    """The help on a terminal of 80 columns, its frames removed and in one line."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return plain(command(capsys, name, "--help").out)


def plain(text: str) -> str:
    """A text without frames and spaces, which depend on where lines end."""
    return re.sub(r"[\s│|]+", "", text)


@pytest.mark.parametrize("name", VERBS)
def test_no_default_is_none_or_empty(capsys, monkeypatch, name):
    shown = help_of(capsys, monkeypatch, name)
    assert not re.search(r"\(default:(None|''|)\)|\{None|None,", shown)


@pytest.mark.parametrize("cls", [*map(verb_of, VERBS), Common])
def test_every_option_is_described_in_full(capsys, monkeypatch, cls):
    about = described(cls)
    own = [field.name for field in dataclasses.fields(cls) if field.name in cls.__annotations__]
    assert all(about[name] for name in own)
    if cls is not Common:
        shown = help_of(capsys, monkeypatch, cls.__name__.lower())
        for name in own:
            assert plain(about[name]) in shown, name


def test_options_keep_names_types_and_defaults():
    generate = verb_of("generate")
    fields = {field.name: field for field in dataclasses.fields(with_help(generate))}
    for field in dataclasses.fields(generate):
        assert (fields[field.name].default, fields[field.name].kw_only) == (field.default, True)
