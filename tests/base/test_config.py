"""Configs survive YAML and JSON, and refuse what they do not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arzoo.base.config import Config, Named, load_yaml
from arzoo.base.errors import ArzooError


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    size: int = 3
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Special(Inner):
    extra: str = "x"


@dataclass(frozen=True, kw_only=True)
class Other(Config):
    kind_of: str = "o"


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    width: int
    name: str | None = None
    causal: bool = True
    mode: Literal["a", "b"] = "a"
    shape: tuple[int, int] = (1, 2)
    levels: tuple[int, ...] = ()
    inner: Inner = Inner()
    either: Inner | Other | None = None
    many: tuple[Inner, ...] = ()

    def build(self) -> str:
        return f"built {self.width}"


FULL = Outer(
    width=4,
    name="n",
    shape=(3, 4),
    levels=(8, 5, 5),
    inner=Special(size=7),
    either=Other(),
    many=(Inner(size=1), Special(rate=1.0)),
)


def test_round_trips(tmp_path):
    assert Outer.from_dict(FULL.to_dict()) == FULL
    assert Outer.from_dict(load_yaml(FULL.to_yaml())) == FULL
    (tmp_path / "config.yaml").write_text(FULL.to_yaml())
    assert Outer.from_dict(load_yaml(tmp_path / "config.yaml")) == FULL


def test_settings_of_a_named_part_may_be_configs():
    part = Named(name="part", settings={"inner": Inner(size=5), "either": Other(), "shape": (1, 2)})
    back = Outer.from_dict(
        {"width": 1, **{k: v for k, v in load_yaml(part.to_yaml()).items() if k != "name"}}
    )
    assert (back.inner, back.either, back.shape) == (Inner(size=5), Other(), (1, 2))


def test_subclass_is_stored_only_where_needed():
    data = FULL.to_dict()
    assert data["inner"]["class"] == "Special"
    assert "class" not in Outer(width=1).to_dict()["inner"]


@settings(deadline=None)
@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers()), st.text())
def test_any_value_round_trips(size, rate, levels, name):
    config = Outer(width=size, name=name, levels=tuple(levels), inner=Inner(rate=rate))
    again = Outer.from_dict(config.to_dict())
    assert again == config
    assert again.hash() == config.hash()


def test_hash_sees_every_field_and_ignores_how_a_number_was_written():
    assert Inner(rate=1).hash() == Inner(rate=1.0).hash()
    assert Inner(rate=1.0).hash() != Inner(rate=2.0).hash()
    assert len(Inner().hash()) == 12


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"width": 1, "cuasal": True}, "'causal'"),
        ({"width": 1, "inner": {"sise": 1}}, "inner.sise.*'size'"),
        ({}, "needs the setting 'width'"),
        ({"width": "1"}, "'width' must be int, got str '1'"),
        ({"width": True}, "must be int, got bool"),
        ({"width": 1.0}, "must be int, got float"),
        ({"width": 1, "causal": 1}, "must be bool"),
        ({"width": 1, "name": 3}, "must be str or null"),
        ({"width": 1, "mode": "c"}, "one of 'a', 'b'"),
        ({"width": 1, "shape": [1, 2, 3]}, "needs 2 values, got 3"),
        ({"width": 1, "levels": [1, "x"]}, r"levels\[1\]"),
        ({"width": 1, "inner": 3}, "'inner' must be Inner"),
        ({"width": 1, "inner": {"class": "Speciel"}}, "'Special'"),
        ({"width": 1, "either": {"size": 1}}, "'either.class' is missing"),
        ([1], "needs a mapping"),
    ],
)
def test_wrong_data_is_refused(data, message):
    with pytest.raises(ArzooError, match=message):
        Outer.from_dict(data)


def test_replace():
    changed = Outer(width=1).replace(width=2, inner={"size": 9}, levels=[1])
    assert changed == Outer(width=2, inner=Inner(size=9), levels=(1,))
    with pytest.raises(ArzooError, match="'width'"):
        changed.replace(widht=3)
    with pytest.raises(ArzooError, match="must be int"):
        changed.replace(width="3")
    with pytest.raises(ArzooError, match="must be int"):
        Inner(size="3").to_dict()  # type: ignore[arg-type]


def test_build():
    assert Outer(width=4).build() == "built 4"
    with pytest.raises(NotImplementedError, match="Inner"):
        Inner().build()


def test_yaml_reads_numbers_and_reports_files(tmp_path):
    assert load_yaml("a: 1e-4\nb: 3E5\nc: 1.5e+3\nd: e5") == {"a": 1e-4, "b": 3e5, "c": 1500.0, "d": "e5"}
    with pytest.raises(ArzooError, match="cannot read"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ArzooError, match="not valid YAML"):
        load_yaml("a: [1")
    with pytest.raises(ArzooError, match="not valid YAML"):
        load_yaml("!!python/object/apply:os.system ['true']")
