"""`arzoo search` once more into its own output: killed, stopped, or with other settings."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from command import CLASSES, command, failing, files_of, tiny_generator, tiny_tokenizer
from ordered import tiny_ordered_generator, tiny_prefixes
from painting import Blue, Red
from toy import in_process

from arzoo.base import registry
from arzoo.cli import gains
from arzoo.cli.__main__ import main


class Faulty(Red):
    """Fails on the second class."""

    def __init__(self, subject):
        super().__init__(subject)
        self.label = subject.label

    def score_images(self, images):
        if self.label == CLASSES[1]:
            raise RuntimeError("no such colour")
        return super().score_images(images)


@pytest.fixture(autouse=True)
def verifiers(monkeypatch):
    registry.names("verifier")
    for name, kind in {"red": Red, "blue": Blue, "faulty": Faulty}.items():
        monkeypatch.setitem(registry._entries["verifier"], name, kind)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_generator(folder / "gen", tiny_tokenizer(folder / "tok"))
    tiny_ordered_generator(folder / "ordered", tiny_prefixes(folder / "first"), CLASSES)
    return folder


WHO = ("--verifier", "red", "--judge", "blue")


def searching(capsys, models, out, *options):
    return command(capsys, "search", models / "gen", *WHO, "--out", out, *options)


def comparable(folder: Path):
    """All files but those with times; of the record, all but times."""
    files = {name: data for name, data in files_of(folder).items() if name not in ("run.json", "search.json")}
    record = json.loads((folder / "search.json").read_text())
    for entry in record["pictures"]:
        del entry["seconds"], entry["spent"]["seconds"]
    return files, record


RESUMED = {
    "gen": ["--samples", "3"],
    "ordered": ["--method", "beam", "--width", "2", "--candidates", "3", "--budget", "decodes=15"],
}
"""Options of searches that go on after a kill, by model."""


def killed(models: Path, out: Path, model: str) -> None:
    """A search that is killed in the middle of its second picture."""
    outcome = gains.outcome

    def dying(task, i, folder, tell):
        if i < 1:
            return outcome(task, i, folder, tell)
        return outcome(task, i, folder, lambda spent: os.kill(os.getpid(), signal.SIGKILL))

    gains.outcome = dying
    main(arguments(models, out, model))


def arguments(models: Path, out: Path, model: str) -> list[str]:
    options = ["--class", *CLASSES, *RESUMED[model], "--tree"]
    return ["search", str(models / model), *WHO, *options, "--out", str(out)]


@pytest.mark.parametrize("model", RESUMED)
def test_the_same_command_goes_on_after_a_kill(capsys, models, tmp_path, model):
    process = in_process(killed, models, tmp_path / "a", model)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) < 0
    first = json.loads((tmp_path / "a" / "search.json").read_text())["pictures"]
    assert [entry["index"] for entry in first] == [0]
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "running"
    for out in ("a", "b"):
        assert command(capsys, *arguments(models, tmp_path / out, model)).status == 0
    resumed, whole = comparable(tmp_path / "a"), comparable(tmp_path / "b")
    assert resumed == whole
    after = json.loads((tmp_path / "a" / "search.json").read_text())["pictures"]
    assert after[0] == first[0], "what was finished is not done again"
    if model == "ordered":
        assert {(each["stopped"], each["spent"]["decodes"]) for each in after} == {("decodes", 15)}
        assert [each["steps"] for each in after[1]["history"]] == [1, 2, 4]
    files = json.loads((tmp_path / "a" / "run.json").read_text())["files"]
    assert files.keys() == files_of(tmp_path / "b").keys() - {"run.json"}


def test_folders_that_hold_something_else(capsys, models, tmp_path):
    out = tmp_path / "out"
    assert searching(capsys, models, out, "--samples", 2, "--num", 2).status == 0
    other = searching(capsys, models, out, "--samples", 3, "--num", 2)
    failing(other, "holds another search, with samples 2, not 3", "--overwrite")
    assert searching(capsys, models, out, "--samples", 2, "--num", 3).status == 0, "more pictures are added"
    (out / "run.json").write_text("{}")  # as after a kill: it names no files
    assert searching(capsys, models, out, "--samples", 3, "--num", 1, "--overwrite").status == 0
    assert len(list((out / "pictures").iterdir())) == 1
    (out / "search.json").write_text('{"settings": {}, "pictures": [1]}')
    failing(searching(capsys, models, out, "--samples", 3), "damaged", "--overwrite")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    failing(searching(capsys, models, tmp_path / "mine"), "not empty")


def test_a_verifier_that_raises_is_named_and_the_run_is_kept(capsys, models, tmp_path):
    options = ["--class", *CLASSES, "--samples", 2, "--verifier", "faulty", "--judge", "blue"]
    result = command(capsys, "search", models / "gen", *options, "--out", tmp_path / "out")
    failing(result, "'red' failed with RuntimeError: no such colour", "1 of 3 pictures are finished")
    assert len(json.loads((tmp_path / "out" / "search.json").read_text())["pictures"]) == 1
    assert (tmp_path / "out" / "pictures" / "0000_animal-plain_seed0.png").exists()


def test_ctrl_c_says_how_to_go_on(capsys, models, tmp_path, monkeypatch):
    outcome = gains.outcome

    def interrupted(task, i, *rest):
        if i == 1:
            raise KeyboardInterrupt
        return outcome(task, i, *rest)

    monkeypatch.setattr(gains, "outcome", interrupted)
    result = searching(capsys, models, tmp_path / "out", "--samples", 2, "--num", 2)
    failing(result, "stopped: 1 of 2 pictures are finished", "The same command draws the others", status=130)
