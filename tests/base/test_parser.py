"""Settings as they are typed: the type of a setting says how its value is read; paths are filled in alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.parser import assignments, changes, typed
from arzoo.base.paths import expanded


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    data: str = ""
    count: int = 0
    share: float | None = None
    on: bool = False
    kind: Literal["even", "no"] = "even"
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "text",
    ["pics #1", "2024", "no", "null", "~", "1e3", "a: b", "[x]", "'quoted'", "v1.yaml", "", " spaces ", "&x"],
)
def test_a_text_is_the_text_that_was_typed(text):
    assert Outer().replace(**changes([f"data={text}"], Outer)).data == text


@pytest.mark.parametrize(
    ("typed_text", "expected"),
    [
        ("count=010", {"count": 10}),
        ("count=-3", {"count": -3}),
        ("share=1e-4", {"share": 1e-4}),
        ("share=null", {"share": None}),
        ("share=2", {"share": 2.0}),
        ("on=yes", {"on": True}),
        ("on=off", {"on": False}),
        ("kind=no", {"kind": "no"}),
        ("names=[no, 2024, 'a, b']", {"names": ("no", "2024", "a, b")}),
        ("inner.betas=[0.9, 1]", {"inner": {"betas": (0.9, 1.0)}}),
        ("inner={rate: 1e-3}", {"inner": Inner(rate=1e-3)}),
    ],
)
def test_other_values_are_read_as_their_type(typed_text, expected):
    assert changes([typed_text], Outer) == expected


@pytest.mark.parametrize(
    "text",
    ["count=1:30", "count=1.5", "count=", "count=yes", "on=1", "share=x", "kind=odd", "names=a", "inner=3"],
)
def test_what_is_of_another_type_is_refused_with_its_name(text):
    with pytest.raises(ArzooError, match=text.partition("=")[0]):
        changes([text], Outer)


def test_nothing_is_set_twice():
    assert assignments(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    for texts in (["a=1", "a=2"], ["a"], ["=1"]):
        with pytest.raises(UsageError):
            assignments(texts)
    for texts in (["inner={rate: 1}", "inner.rate=2"], ["inner.rate=2", "inner={rate: 1}"]):
        with pytest.raises(UsageError, match="give one of them"):
            changes(texts, Outer)


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(ArzooError, match="Did you mean 'count'"):
        Outer().replace(**changes(["cuont=3"], Outer))
    with pytest.raises(ArzooError, match="dates"):
        typed("[1", tuple[int, ...], "dates")


def test_typed_paths_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PICS", "mine")
    monkeypatch.chdir(tmp_path)
    assert expanded("~/runs") == f"{tmp_path}/runs"
    assert expanded(Path("~") / "$PICS") == f"{tmp_path}/mine"
    assert expanded("${PICS}/a") == "mine/a"
    for text in (
        "nar_emoji64",
        "hf-hub:org/name",
        "$UNSET/x",
        "a~b",
        "~nobody-of-this-name/x",
        "",
        "a\0b",
        "x" * 9999,
    ):
        assert expanded(text) == text
    Path("$PICS").mkdir()
    assert (expanded("$PICS"), expanded("$PICS/new")) == ("$PICS", "$PICS/new")
