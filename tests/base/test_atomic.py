"""Folders that are replaced whole: killed at every moment, the old content or the new one is there."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys

import pytest
import toy
from command import tiny_generator, tiny_tokenizer

from arzoo.base import files
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.store import verify
from arzoo.generation.generator import Generator

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
    place, stride, found = tmp_path / "place", 6, {}
    place.mkdir()
    (tmp_path / "tok").rename(tmp_path / "gone")  # only the one in the folder can be found

    def survives(number):
        """Whether a save has fewer events; what is there behind it goes into `found`."""
        shutil.rmtree(place / "mine", ignore_errors=True)
        if there:
            model.save_pretrained(place / "mine", record={"seed": 1})

        def enter():
            die_before(number, place)
            model.save_pretrained(place / "mine", record={"seed": 2})

        status = os.waitstatus_to_exitcode(os.waitpid(toy.in_process(enter), 0)[1])
        assert status in (0, -signal.SIGKILL)
        if (place / "mine").exists():
            found[number] = verify(str(place / "mine")).index["training"]["seed"]
            assert (place / "mine" / "tokenizer" / "model_index.json").exists()
        return status == 0

    last = next(number for number in itertools.count(1, stride) if survives(number))
    assert last > 3 * stride
    for number in range(last - stride + 1, last):  # the moments of the change
        survives(number)
    assert found[last] == 2
    order = [found[number] for number in sorted(found)]
    assert order == sorted(order), "the old one until the new one has its name"
    assert set(order) == ({1, 2} if there else {2})


def test_a_failure_between_the_parts_leaves_what_was_there(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "mine", record={"seed": 1})

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("arzoo.generation.sharing._save_tokenizer", fail)
    for name in ("mine", "new"):
        with pytest.raises(OSError, match="No space"):
            model.save_pretrained(tmp_path / name, record={"seed": 2})
    assert verify(str(tmp_path / "mine")).index["training"] == {"seed": 1}
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_folder_is_replaced_with_and_without_an_exchange_of_names(tmp_path, monkeypatch, exchanged):
    if not exchanged:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("first", "second"):
        with files.atomic_folder(tmp_path / "a", overwrite=True) as partial:
            (partial / text).touch()
        assert [path.name for path in (tmp_path / "a").iterdir()] == [text]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    replace = os.replace

    def refuse(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"), files.atomic_folder(tmp_path / "a", overwrite=True):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_processes_that_write_one_name_the_second_is_refused(tmp_path, overwrite):
    """Both began while there was nothing; the one that ends later must not undo the other, unless it was asked to."""

    def two_folders():
        with files.atomic_folder(folder, overwrite) as one, files.atomic_folder(folder, overwrite) as other:
            (one / "first").touch()
            (other / "second").touch()

    def two_files():
        with files.atomic_file(file, overwrite) as one, files.atomic_file(file, overwrite) as other:
            one.write_text("first")
            other.write_text("second")

    folder, file = tmp_path / "folder", tmp_path / "file"
    if overwrite:
        two_folders()
        two_files()
        assert [path.name for path in folder.iterdir()] == ["first"]
        assert file.read_text() == "first"
    else:
        with pytest.raises(ArzooError, match="not empty"):
            two_folders()
        with pytest.raises(ArzooError, match="--overwrite"):
            two_files()
        assert [path.name for path in folder.iterdir()] == ["second"]
        assert file.read_text() == "second"
    assert not list(tmp_path.glob(".*"))
