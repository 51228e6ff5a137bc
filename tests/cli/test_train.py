"""`arzoo train` as people use it: stopped, killed and interrupted, then the same command once more."""

import errno
import json
import os
import platform
import pty
import signal
import subprocess
import sys
from functools import partial

import psutil
import pytest
import torch
import toy
from safetensors.torch import load_file
from scripted import ROOT

import arzoo
from arzoo.base import files, lock
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.runs import Unfinished
from arzoo.cli import output
from arzoo.cli.__main__ import main
from arzoo.train.engine import Engine

SMOKE = "train smoke --run.batch 8 --run.accumulate 2 --run.workers 1 --run.save-every 4 --run.log-every 4".split()
FILES = 5
"""Tensor files of a state: weights and moments of two parts, and the average."""


def typed(out, *options, before=None):
    """Exit status of the command in a process of its own; negative for the signal that killed it."""

    def enter():
        if before:
            before()
        main([*SMOKE, "--out", str(out), *options])

    return os.waitstatus_to_exitcode(os.waitpid(toy.in_process(enter), 0)[1])


def interrupt(times, step=6):
    """Press Ctrl-C in the middle of a step."""
    update = Engine._update

    def interrupted(self, *arguments):
        for _ in range(times if self.step == step else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    Engine._update = interrupted


def losses(out):
    return {line["step"]: line["loss"] for line in map(json.loads, (out / "log.jsonl").open())}


def same(out, whole):
    """All weights, moments, averages and checkpoints, bit for bit, and the losses of the log."""
    return toy.same(toy.tensors(out), toy.tensors(whole)) and losses(out).items() >= losses(whole).items()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Twelve steps in one go."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert again(out) == 0
    return out


def again(out):
    return typed(out, "--max-steps", "12")


def test_a_longer_run_continues_a_shorter_one(whole, tmp_path):
    assert typed(tmp_path / "run", "--max-steps", "5") == 0
    assert again(tmp_path / "run") == 0
    assert same(tmp_path / "run", whole)
    assert list(losses(tmp_path / "run")) == [4, 5, 8, 12], "the last step is always told"
    assert len(toy.tensors(whole / "state" / "step_0000012")) > 100


def test_a_run_killed_inside_a_save_continues(whole, tmp_path):
    assert typed(tmp_path / "run", before=partial(toy.die_writing, FILES + 2)) == -signal.SIGKILL
    assert (tmp_path / "run" / "latest").read_text() == "step_0000004"
    assert list((tmp_path / "run" / "state").glob(".*.partial"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    assert again(tmp_path / "run") == 0
    assert same(tmp_path / "run", whole)
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_ctrl_c_saves_and_says_how_to_go_on(whole, tmp_path, capfd):
    assert typed(tmp_path / "run", before=partial(interrupt, 1)) == 130
    said = capfd.readouterr().err
    assert "finishing this step, then saving; interrupt again to stop at once" in said
    assert "stopped after step 7, saved; the same command continues" in said
    assert "Traceback" not in said
    for fact in (
        "data: emoji32, 200 pictures",
        "tokens per picture: 64",
        "effective batch: 8 = 1 processes x 2 m",
    ):
        assert fact in said
    assert (tmp_path / "run" / "latest").read_text() == "step_0000007"
    status = json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert status.startswith("Interrupted: stopped after step 7")
    with pytest.warns(Unfinished, match="step 7 of 40"):
        stopped = arzoo.load(tmp_path / "run").state_dict()
    average = load_file(tmp_path / "run" / "state" / "step_0000007" / "ema.safetensors")
    assert all(torch.equal(stopped[name], value.half().float()) for name, value in average.items())
    assert again(tmp_path / "run") == 0
    assert same(tmp_path / "run", whole)


def test_ctrl_c_twice_stops_at_once(whole, tmp_path, capfd):
    assert typed(tmp_path / "run", before=partial(interrupt, 2)) == 130
    said = capfd.readouterr().err
    assert "error: interrupted" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "latest").read_text() == "step_0000004"
    assert again(tmp_path / "run") == 0
    assert same(tmp_path / "run", whole)


def test_a_pipe_whose_reader_went_away_does_not_end_the_run(tmp_path):
    train = [sys.executable, "-m", "arzoo.cli", *SMOKE, "--max-steps", "12", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for out, script in (("whole", '"$@"'), ("run", 'set -o pipefail; "$@" 2>&1 | head -1')):
        command = ["bash", "-c", script, "bash", *train, str(tmp_path / out)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert list(losses(tmp_path / "run")) == [4, 8, 12]
    assert same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals that hang up")
def test_a_closed_terminal_saves_the_run(tmp_path):
    child, terminal = pty.fork()
    if not child:
        os.environ["PYTHONPATH"] = str(ROOT)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests themselves may run under nohup
        os.execv(sys.executable, [sys.executable, "-m", "arzoo.cli", *SMOKE, "--out", str(tmp_path / "run")])
    said = b""
    while b"loss" not in said:
        said += os.read(terminal, 1024)
    os.close(terminal)
    assert psutil.Process(child).wait(120) == 130
    status = json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert status.startswith("Interrupted: stopped after step")
    assert (tmp_path / "run" / "latest").read_text() == f"step_{int(status.split()[4].rstrip(',')):07d}"


def test_the_checkpoint_tells_how_it_was_made(whole):
    training = open_checkpoint(whole / "checkpoint").index["training"]
    assert training["command"].startswith("arzoo train smoke --run.batch 8")
    assert "threads per process" in training["hardware"]
    assert training["python"] == platform.python_version()
    assert (training["steps"], training["seed"]) == (12, 0)
    assert training["hours"] > 0
    card = (whole / "checkpoint" / "README.md").read_text()
    assert f"* command: {training['command']}\n" in card
    assert f"* hardware: {training['hardware']}\n" in card
    assert f"python {training['python']}, torch {training['torch']}" in card


def test_a_finished_run_started_again_keeps_its_figures_and_its_card(whole, tmp_path):
    out = toy.copy(whole, tmp_path / "run")
    folder = out / "checkpoint"
    (folder / "metrics.json").write_text(json.dumps({"psnr@12345678": {"value": 30.0}}))
    (folder / "README.md").write_text("my own words")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert again(out) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(out.glob(".*.partial"))
    (folder / "tokenizer" / "model.safetensors").write_bytes(b"damaged")
    assert again(out) == 0
    assert toy.same(toy.tensors(folder), toy.tensors(whole / "checkpoint")), "a damaged one is written again"


def test_two_starts_in_one_folder(whole, tmp_path, capfd):
    out = tmp_path / "run"
    with lock.alone(out):
        assert again(out) == 1
        assert f"error: another process trains in {out}" in capfd.readouterr().err
        assert [path.name for path in out.iterdir()] == [lock.FILE], "nothing of the first one is touched"
    assert typed(out, before=partial(toy.die_writing, FILES + 2)) == -signal.SIGKILL
    assert again(out) == 0, "a killed process holds nothing"
    assert same(out, whole)


def test_run_json_names_the_files_of_the_checkpoint(whole):
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "finished"
    found = record["checkpoint_files"]
    assert set(found) == {str(p.relative_to(whole)) for p in (whole / "checkpoint").rglob("*") if p.is_file()}
    assert found["checkpoint/model_index.json"] == file_sha256(whole / "checkpoint" / "model_index.json")
    assert not record["files"], "overwriting the folder must not remove the checkpoint"


def test_every_line_tells_the_use_of_the_codebook_and_all_replacements(whole):
    lines = {line["step"]: line for line in map(json.loads, (whole / "log.jsonl").open())}
    assert list(lines) == [4, 8, 12]
    assert all(line["codes_used"] > 0 and line["codebook_perplexity"] >= 1 for line in lines.values())
    assert [lines[step]["codes_replaced"] for step in (4, 8)] == [0, 128], (
        "all are seeded behind the sixth step"
    )


def no_room(name, module, function):
    """A disk without room for one file, which a function writes."""
    write = getattr(module, function)

    def full(path, text):
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, text)

    setattr(module, function, full)


@pytest.mark.parametrize("name", ["recipe.yaml", "run.json"])
def test_a_disk_without_room_for_records_is_explained(tmp_path, capfd, name):
    full = partial(no_room, name, files, "write_text")
    assert typed(tmp_path / "run", "--max-steps", "1", before=full) == 1
    said = capfd.readouterr().err
    assert f"error: no room to write {name} in {tmp_path / 'run'} (" in said
    assert "Make room" in said


def test_the_first_error_is_the_one_to_read(tmp_path, capsys, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(ArzooError, match="the better one"), output.output_folder(tmp_path / "out", True, []):
        raise ArzooError("the better one")
    assert "run.json was not written either: no room to write run.json" in capsys.readouterr().err
