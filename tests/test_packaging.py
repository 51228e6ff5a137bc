"""What is installed: every folder of the repository's code, and nothing that hides other packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from scripted import ROOT

import arzoo

LINKED = ("models", "tokenizers", "samplers", "train")
PROBES = ("arzoo/pretrained/probe/backbone/model.safetensors", "arzoo/train/recipes/probe.yaml")


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Files of the wheel, built from a copy so that the checkout gets no build folders."""
    pytest.importorskip("setuptools")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("arzoo", *LINKED):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    for probe in PROBES:
        path = tree / probe.removeprefix("arzoo/") if probe.startswith("arzoo/train/") else tree / probe
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run("-c", f"from setuptools import build_meta as b; b.build_wheel({str(out)!r})", cwd=tree)
    (path,) = out.glob("*.whl")
    assert path.name.startswith(f"arzoo-{arzoo.__version__}-")
    return set(zipfile.ZipFile(path).namelist())


def shipped_files() -> set[str]:
    """Files of the checkout that an installed package must have, by their installed path."""
    found = set()
    for folder, prefix in [("arzoo", "arzoo"), *((name, f"arzoo/{name}") for name in LINKED)]:
        for path in (ROOT / folder).rglob("*"):  # does not enter the links
            inner = path.relative_to(ROOT / folder)
            wanted = path.suffix in (".py", ".yaml", ".html", ".css", ".js") or inner.parts[0] == "pretrained"
            if path.is_file() and wanted and "__pycache__" not in inner.parts:
                found.add(f"{prefix}/{inner.as_posix()}")
    return found


def test_the_wheel_holds_every_file(wheel):
    expected = shipped_files()
    assert {"arzoo/base/config.py", "arzoo/samplers/loop.py"} <= expected
    assert expected - wheel == set()
    assert set(PROBES) <= wheel


def test_the_wheel_installs_one_package(wheel):
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {"arzoo"}
    assert not any("__pycache__" in name for name in wheel)


@pytest.mark.parametrize("name", LINKED)
def test_links_are_relative(name):
    link = ROOT / "arzoo" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_the_tokenizers_folder_hides_nothing():
    assert not (ROOT / "tokenizers" / "__init__.py").exists()
    pytest.importorskip("transformers")
    out = run("-c", "import tokenizers, transformers; print(tokenizers.__file__)", cwd=ROOT)
    assert "site-packages" in out
    assert run("-c", "import arzoo.tokenizers as t; print(list(t.__path__))", cwd=ROOT)


def test_importing_the_package_is_cheap():
    code = "import sys, arzoo, arzoo.base.errors, arzoo.base.config, arzoo.base.registry; print('torch' in sys.modules)"
    assert run("-c", code, cwd=ROOT).strip() == "False"
