"""A working directory with pictures, models and a tiny feature network."""

from __future__ import annotations

import shutil

import pytest
from command import picture, ten_pictures, tiny_models
from tiny_net import tiny_net

from arzoo.base import registry


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with samples, a reference, models, and an empty cache."""
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setitem(registry._entries["dataset"], "wide", lambda: ten_pictures(24))
    monkeypatch.setitem(registry._entries["feature_net"], "tiny", tiny_net)
    monkeypatch.setattr("arzoo.base.runtime.commit", lambda: None)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name, count, first in (("samples", 9, 0), ("reference", 12, 100)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture(tmp_path / name / f"{i:04d}.png", seed=first + i)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(work, trained):
    return shutil.copytree(trained, work, dirs_exist_ok=True)
