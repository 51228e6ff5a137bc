"""Machines without a home, with a cache that cannot be written, or with little memory: the cause and the way out."""

from __future__ import annotations

import os
import pwd
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import command, failing, ten_pictures, tiny_models
from tiny_net import tiny_net

from arzoo.base import memory, runtime
from arzoo.cli import doctor
from arzoo.cli.__main__ import _explain
from arzoo.data.pictures import DataPictures
from arzoo.data.sets import emoji
from arzoo.metrics.cache import measure_once

VARIABLES = ("HOME", "ARZOO_CACHE", "ARZOO_HOME", "XDG_CACHE_HOME", "USERPROFILE")


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without a home."""

    def missing(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", missing)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A cache below a file, which nobody can make."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_home_everything_runs(capsys, homeless, monkeypatch):
    tiny_models(homeless)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", "~/hub")  # as in a new process
    with pytest.warns(UserWarning, match="no home folder: the cache is .*ARZOO_CACHE names another one"):
        folder = runtime.cache_folder()
    assert folder.parent == homeless / "temporary"
    for arguments in (["generate", "gen", "--num", 1], ["checkpoints", "ls"], ["doctor", "--fast"]):
        with pytest.warns(UserWarning, match="no home folder"):
            assert command(capsys, *arguments).status == 0


def test_variables_and_an_old_cache_decide_before_the_system_does(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *rest, **more: tmp_path / "Caches" / "arzoo")
    assert runtime.cache_folder() == tmp_path / "Caches" / "arzoo"
    old = tmp_path / ".cache" / "arzoo"
    old.mkdir(parents=True)
    assert runtime.cache_folder() == old
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert runtime.cache_folder() == tmp_path / "xdg" / "arzoo"
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "mine"))
    assert runtime.cache_folder() == tmp_path / "mine"
    assert "from ARZOO_CACHE" in runtime.cache_remedy()


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(capsys, closed, monkeypatch):
    monkeypatch.setattr(emoji, "_build", lambda *rest: pytest.fail("it was drawn in vain"))
    tiny_models(closed)
    assert command(capsys, "generate", "gen", "--num", 1).status == 0, "what needs no cache runs"
    for arguments in (["data", "show", "emoji32"], ["checkpoints", "tag", "gen", "mine"]):
        failing(command(capsys, *arguments), "cannot use", str(closed / "file"), "ARZOO_CACHE")
    assert command(capsys, "checkpoints", "export", "gen", "gen.tar").status == 0
    failing(command(capsys, "generate", "gen.tar", "--num", 1, "--out", "b"), "cannot use", "ARZOO_CACHE")
    monkeypatch.setenv("ARZOO_HOME", str(closed / "file" / "home"))
    failing(command(capsys, "checkpoints", "tag", "gen", "mine"), "ARZOO_HOME")


def test_features_that_cannot_be_kept_are_used_and_that_is_said(closed):
    with pytest.warns(UserWarning, match="not kept for the next time.*ARZOO_CACHE"):
        assert measure_once(DataPictures(ten_pictures(32)), tiny_net()).count == 10


def test_doctor_tries_what_it_calls_well(capsys, closed, monkeypatch):
    result = command(capsys, "doctor", "--fast")
    assert "all is well" not in result.out
    assert "ARZOO_CACHE" in result.out
    (closed / "broken_package.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(doctor, "OPTIONAL", {"text": "broken_package"})
    monkeypatch.setattr(doctor, "SMALL_PACKAGES", {})
    problems: list[str] = []
    assert doctor._optional(problems, load=False) == {"text (broken_package)": "installed"}
    assert not problems
    assert doctor._optional(problems, load=True) == {"text (broken_package)": "broken"}
    assert "broken_package of arzoo[text] cannot be imported: division by zero" in problems[0]
    monkeypatch.setattr(torch, "ones", lambda *rest, **more: torch.zeros(8))
    doctor._devices(problems)
    assert "cpu does not compute" in problems[1]


ERRORS = [
    MemoryError("Unable to allocate 93.1 GiB for an array"),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    OSError(12, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_out_of_memory_has_one_message_wherever_it_comes_from(error):
    for command_, words in ({"batch": 1, "precision": "fp32"}, "a smaller --batch or --precision bf16"), (
        {"recipe": "x"}, "a larger --run.accumulate"), ({}, "to free some first"):  # fmt: skip
        text = _explain(error, SimpleNamespace(**command_))
        assert text.startswith("out of memory")
        assert words in text
    assert "defect" in _explain(RuntimeError("something else"), SimpleNamespace())


def test_too_little_memory_on_a_cpu(capfd, tmp_path, monkeypatch):
    """Drawing more pictures at once than memory allows, in a process of its own."""
    import toy

    monkeypatch.chdir(tmp_path)
    tiny_models(tmp_path)

    def limited():
        from arzoo.cli.__main__ import main

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), -1))
        main(["generate", "gen", "--num", "90000", "--batch", "90000", "--threads", "1", "--out", "drawn"])

    status = os.waitstatus_to_exitcode(os.waitpid(toy.in_process(limited), 0)[1])
    assert status == 1
    said = capfd.readouterr().err
    assert "out of memory" in said
    assert "--batch" in said


def test_what_may_still_be_taken_is_the_least_of_all_limits(monkeypatch):
    assert memory.free_bytes() is None or memory.free_bytes() > 0
    monkeypatch.setattr(memory, "_of_machine", lambda: 3 << 30)
    monkeypatch.setattr(memory, "_of_container", lambda: 2 << 30)
    monkeypatch.setattr(memory, "_of_process", lambda: None)
    assert memory.free_bytes() == 2 << 30
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    monkeypatch.setattr(memory, "_of_container", lambda: None)
    assert memory.free_bytes() is None
