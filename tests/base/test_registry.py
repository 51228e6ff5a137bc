"""Names: registration, look-up, nearest names, plug-ins, and the table of modules."""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from importlib import metadata

import pytest
from scripted import ROOT

from arzoo.base import registry
from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UnknownName


@dataclass(frozen=True, kw_only=True)
class ThingConfig(Config):
    size: int = 1

    def build(self) -> tuple[str, int]:
        return ("thing", self.size)


@pytest.fixture(autouse=True)
def own_names(monkeypatch):
    """An empty registry."""
    monkeypatch.setattr(registry, "_entries", {kind: {} for kind in registry.HOMES})
    monkeypatch.setattr(registry, "HOMES", dict.fromkeys(registry.HOMES, ()))


def add(*keys: str) -> None:
    for key in keys:
        registry.register("backbone", key)(lambda: ThingConfig())


def test_register_and_create():
    @registry.register("backbone")
    def thing_s() -> ThingConfig:
        """A small thing.

        More about it.
        """
        return ThingConfig(size=2)

    assert registry.lookup("backbone", "thing_s") is thing_s
    assert registry.create("backbone", "thing_s") == ("thing", 2)
    assert registry.create("backbone", "thing_s", size=5) == ("thing", 5)
    assert registry.describe("backbone", "thing_s") == "A small thing."
    with pytest.raises(ArzooError, match="'size'"):
        registry.create("backbone", "thing_s", sise=5)


def test_called_kinds_pass_their_arguments():
    registry.register("plan", "double")(lambda layout: 2 * layout)
    assert registry.create("plan", "double", layout=4) == 8


def test_names_are_sorted_naturally():
    add("x_s16", "x_s2", "y", "x")
    assert registry.names("backbone") == ["x", "x_s2", "x_s16", "y"]
    assert registry.names("backbone", "x_*") == ["x_s2", "x_s16"]


def test_unknown_names_suggest():
    add("nar_b", "nar_l", "mar_b")
    with pytest.raises(UnknownName, match=r"unknown backbone 'nar_bb'.*'nar_b'"):
        registry.lookup("backbone", "nar_bb")
    with pytest.raises(UnknownName, match="'backbone'"):
        registry.names("backbon")


def test_a_taken_name_is_refused():
    add("a")
    with pytest.raises(ArzooError, match="already registered"):
        registry.register("backbone", "a")(print)
    with pytest.raises(ArzooError, match="needs a name"):
        registry.register("metric")(3)


def test_modules_are_imported_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text(
        "from arzoo.base.registry import register\n@register('metric')\ndef late():\n    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.HOMES["metric"] = ("late_module",)
    assert registry.names("metric") == ["late"]
    assert registry.create("metric", "late") == 7


def test_plug_ins(monkeypatch):
    point = metadata.EntryPoint("theirs", "operator:neg", "arzoo.metrics")
    broken = metadata.EntryPoint("broken", "no_such_module:x", "arzoo.metrics")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [broken, point] if "metric" in group else [])
    registry._load_entry_points.cache_clear()
    with pytest.warns(UserWarning, match="'broken'"):
        assert registry.names("metric") == ["theirs"]
    registry._load_entry_points.cache_clear()


def test_every_module_that_registers_is_in_a_home(monkeypatch):
    monkeypatch.undo()
    found = set()
    folders = [ROOT / "arzoo", *(path.resolve() for path in (ROOT / "arzoo").iterdir() if path.is_symlink())]
    for path in itertools.chain.from_iterable(folder.rglob("*.py") for folder in folders):
        if path.parts[len(ROOT.parts) :][:2] == ("arzoo", "base"):
            continue
        inner = path.relative_to(ROOT).with_suffix("")
        parts = inner.parts if inner.parts[0] == "arzoo" else ("arzoo", *inner.parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found |= {(kind, module) for kind in registered_kinds(ast.parse(path.read_text(encoding="utf-8")))}
    homes = {
        (kind, module)
        for kind, patterns in registry.HOMES.items()
        for pattern in patterns
        for module in registry._modules(pattern)
    }
    assert found <= homes
    assert all("*" in home for homes in registry.HOMES.values() for home in homes)


def registered_kinds(tree: ast.Module) -> set[str]:
    """First arguments of all calls of `register(...)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    names = ((call, getattr(call.func, "id", getattr(call.func, "attr", ""))) for call in calls)
    return {
        call.args[0].value
        for call, name in names
        if name == "register" and isinstance(call.args[0], ast.Constant)
    }
