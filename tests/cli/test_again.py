"""`arzoo generate` and `reconstruct` once more into their own output: stopped, finished, or with other settings."""

import json
import os
import signal
from collections import Counter

import pytest
from command import command, failing, files_of, picture, tiny_models
from toy import in_process

from arzoo.base.files import file_sha256
from arzoo.cli import batches, earlier, output
from arzoo.generation.drawings import Drawings


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


def pictures(folder):
    return {name: data for name, data in files_of(folder).items() if name.endswith((".png", ".webp"))}


def stop_in_batch(monkeypatch, number):
    """Press Ctrl-C when this batch is drawn."""
    write = batches.Batches._write
    count = []

    def written(self, *arguments):
        count.append(1)
        if len(count) == number:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(batches.Batches, "_write", written)


OPTIONS = ["--num", 5, "--batch", 2, "--class", "0", "2", "--animate"]


def test_ctrl_c_keeps_finished_pictures_and_the_same_command_draws_the_others(
    capsys, models, tmp_path, monkeypatch
):
    whole = command(capsys, "generate", models / "gen", *OPTIONS, "--out", tmp_path / "whole", "--json").json
    options = ["generate", models / "gen", *OPTIONS, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2)
        stopped = command(capsys, *options)
    failing(stopped, "stopped: 2 of 5 pictures are finished", "The same command draws the others", status=130)
    assert len(list((tmp_path / "out").glob("000[01]_*.png"))) == 2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"].startswith(
        "Interrupted: stopped: 2 of 5"
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("000[01]_*")}
    read = Counter()

    def hashed(path):
        read[path.name] += 1
        return file_sha256(path)

    for module in (earlier, output):
        monkeypatch.setattr(module, "file_sha256", hashed)
    continued = command(capsys, *options, "--json")
    assert continued.status == 0
    assert {read[path.name] for path in before} == {1}, "what was finished is read once for its hash"
    assert "holds some of these pictures already: those that are missing are drawn" in continued.err
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in before} == before, (
        "what was finished is not written again"
    )
    names = {str(path) for path in (tmp_path / "out").glob("000*")} | {str(tmp_path / "out" / "grid.png")}
    assert set(continued.json["files"]) == names
    assert continued.json["passes"] == whole["passes"]


def test_a_picture_that_was_edited_after_ctrl_c_is_kept(capsys, models, tmp_path, monkeypatch):
    options = ["generate", models / "gen", *OPTIONS, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2)
        command(capsys, *options)
    edited = tmp_path / "out" / "0001_food-plain_seed0.png"
    edited.write_bytes(b"mine")
    failing(command(capsys, *options), "not empty", f"{edited.name} changed since this command wrote it")
    assert edited.read_bytes() == b"mine"
    for path in edited.parent.glob("0*"):
        path.unlink()
    continued = command(capsys, *options)
    assert continued.status == 0
    assert "holds some of these pictures already" not in continued.err


def killed(capsys, options):
    """A command that is killed when it writes its third batch."""
    count, write = [], batches.Batches._write

    def dying(self, *arguments):
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, *arguments)

    batches.Batches._write = dying
    command(capsys, *options)


def test_a_killed_command_continues(capsys, models, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "RECORD_SECONDS", 0.0)
    options = ["generate", models / "gen", *OPTIONS, "--out", tmp_path / "out"]
    child = in_process(killed, capsys, options)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert json.loads((tmp_path / "out" / "run.json").read_text())["drawn"] == [0, 1, 2, 3]
    (tmp_path / "out" / "0004_animal-plain_seed0.png").write_bytes(b"half")
    assert command(capsys, *options).status == 0
    command(capsys, "generate", models / "gen", *OPTIONS, "--out", tmp_path / "whole")
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")


def test_the_same_command_draws_nothing_anew(capsys, models, tmp_path, monkeypatch):
    options = ["generate", models / "gen", *OPTIONS, "--out", tmp_path / "out", "--json"]
    first = command(capsys, *options)
    with monkeypatch.context() as patch:
        patch.setattr(Drawings, "of", None)
        again = command(capsys, *options)
    assert again.status == 0
    assert f"{tmp_path / 'out'} holds these pictures already: nothing is drawn anew" in again.err
    assert again.json == first.json
    assert not {"request", "drawn"} & first.json.keys(), "what only a later command needs stays in run.json"
    assert command(capsys, *options, "--dry-run").status == 0
    (tmp_path / "out" / "0001_food-plain_seed0.png").unlink()
    before = pictures(tmp_path / "out")
    assert command(capsys, *options).status == 0
    assert pictures(tmp_path / "out").items() > before.items()
    (tmp_path / "out" / "0001_food-plain_seed0.png").write_bytes(b"mine")
    failing(
        command(capsys, *options),
        "not empty",
        "0001_food-plain_seed0.png changed since this command wrote it",
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--seed", 1], "seed 0, not 1"),
        (["--num", 4], "num 5, not 4"),
        (["--class", "food/plain"], 'classes ["animal/plain", "food/plain"], not ["food/plain"]'),
        (["--guidance", 2], "guidance None, not 2"),
    ],
)
def test_other_settings_are_refused_and_named(capsys, models, tmp_path, other, said):
    folder = tmp_path / "out"
    assert command(capsys, "generate", models / "gen", *OPTIONS, "--out", folder).status == 0
    before = files_of(folder)
    names = {other[0]}
    kept = [OPTIONS[i : i + n] for i, n in ((0, 2), (2, 2), (4, 3), (7, 1)) if OPTIONS[i] not in names]
    options = [text for texts in kept for text in texts]
    failing(
        command(capsys, "generate", models / "gen", *options, *other, "--out", folder),
        "not empty",
        said,
        "--overwrite",
    )
    assert files_of(folder) == before


def test_reconstructions_are_made_once(capsys, models, tmp_path):
    for i in range(2):
        picture(tmp_path / f"{i}.png", seed=i)
    options = [
        "reconstruct",
        tmp_path / "0.png",
        "--tokenizer",
        models / "tok",
        "--out",
        tmp_path / "out",
        "--json",
    ]
    first = command(capsys, *options)
    assert first.status == 0, first
    again = command(capsys, *options)
    assert (again.status, again.json) == (0, first.json)
    assert "holds these reconstructions already: nothing is computed anew" in again.err
    [entry] = again.json["pictures"]
    assert entry["file"] == str(tmp_path / "out" / "0000_0.png")
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = command(capsys, *options[:5], tmp_path / "moved", "--json")
    assert moved.json["pictures"] == [entry | {"file": str(tmp_path / "moved" / "0000_0.png")}]
    (tmp_path / "moved").rename(tmp_path / "out")
    other = command(capsys, *options[:1], tmp_path / "1.png", *options[2:])
    failing(other, "not empty", "pictures [", "--overwrite")
    picture(tmp_path / "0.png", seed=2)
    failing(command(capsys, *options), "not empty", "sha256-of-pictures")
    assert command(capsys, *options, "--overwrite").status == 0
    (tmp_path / "out" / "grid.png").unlink()
    assert command(capsys, *options).status == 0
    assert (tmp_path / "out" / "grid.png").exists()
