"""Folders that are replaced whole: killed at every moment, the old content or the new one is there."""

from __future__ import annotations

import errno
import os
import signal
import sys

import pytest
import toy
from command import tiny_generator, tiny_tokenizer

from arzoo import atomic
from arzoo.generator import Generator
from arzoo.store import verify

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
"""What Python tells an audit hook before it happens to a file."""


def die_before(number: int, folder) -> None:
    """Kill this process before the n-th thing it does to files in a folder."""
    left = [number]

    def hook(event, arguments):
        if event in EVENTS and str(folder) in str(arguments[:2]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    return Generator.load(tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok")))


@pytest.mark.parametrize("there", [False, True])
def test_a_generator_and_its_tokenizer_appear_together(model, tmp_path, there):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "tok").rename(tmp_path / "gone")  # only the one in the folder can be found
    found, status, number = [], -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        number += 1
        if there:
            model.save_pretrained(place / "mine", record={"seed": 1})

        def enter(number=number):
            die_before(number, place)
            model.save_pretrained(place / "mine", record={"seed": 2})

        status = os.waitstatus_to_exitcode(os.waitpid(toy.in_process(enter), 0)[1])
        if (place / "mine").exists():
            found.append(verify(str(place / "mine")).index["training"]["seed"])
            assert (place / "mine" / "tokenizer" / "model_index.json").exists()
    assert status == 0
    assert number > 20
    assert set(found) == ({1, 2} if there else {2})
    assert found == sorted(found), "the old one until the new one has its name"
    assert not there or len(found) == number


def test_a_failure_between_the_parts_leaves_what_was_there(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "mine", record={"seed": 1})

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("arzoo.hub._save_tokenizer", fail)
    for name in ("mine", "new"):
        with pytest.raises(OSError, match="No space"):
            model.save_pretrained(tmp_path / name, record={"seed": 2})
    assert verify(str(tmp_path / "mine")).index["training"] == {"seed": 1}
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_folder_is_replaced_with_and_without_an_exchange_of_names(tmp_path, monkeypatch, exchanged):
    if not exchanged:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    for text in ("first", "second"):
        with atomic.atomic_folder(tmp_path / "a", overwrite=True) as partial:
            (partial / text).touch()
        assert [path.name for path in (tmp_path / "a").iterdir()] == [text]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    replace = os.replace

    def refuse(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"), atomic.atomic_folder(tmp_path / "a", overwrite=True):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
