"""Runs that are stopped or still running: every command reads their newest saved state and says which it is."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from command import command, failing, tiny_generator, tiny_tokenizer
from evaluating import FAST
from tiny_net import tiny_net

import arzoo
from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints import runs, store
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import resolve
from arzoo.checkpoints.runs import Unfinished
from arzoo.generation.generator import Generator


def record(step):
    return {"steps": step, "recipe": {"run": {"steps": 1000}}}


def save(run, step, seed, name=None):
    """A generator with weights of its own, as a run writes it after a step."""
    tiny_generator(run / "new", Path("runs/vq"), seed)
    folder = run / (name or f"state/step_{step:07d}/checkpoint")
    Generator.load(run / "new", "runs/vq").save(folder, {}, record(step))
    shutil.rmtree(run / "new")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of 1000 steps that was stopped after step 300."""
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer(Path("runs/vq/checkpoint"))
    folder = Path("runs/mine")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("task: generator\n")
    for step, seed in ((200, 1), (300, 2)):
        save(folder, step, seed)
    return folder


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_newest_state_is_loaded_and_said(run):
    with pytest.warns(
        Unfinished, match="runs/mine is not finished: its newest saved state is used, step 300 of 1000"
    ):
        model = arzoo.load(run)
    newest = Generator.load(run / "state" / "step_0000300")
    assert all(map(torch.equal, model.backbone.parameters(), newest.backbone.parameters()))


def test_a_damaged_state_is_passed_over(run):
    flip(run / "state/step_0000300/checkpoint/backbone/model.safetensors")
    with pytest.warns(Unfinished) as said:
        arzoo.load(run)
    texts = [str(warning.message) for warning in said]
    assert any(
        "step_0000300 is damaged: backbone/model.safetensors has another sha256" in text for text in texts
    )
    assert any("step 200 of 1000" in text for text in texts)
    (run / "state/step_0000200/checkpoint/head/model.safetensors").unlink()
    with pytest.warns(Unfinished), pytest.raises(ArzooError, match=r"is damaged.*continue the training"):
        arzoo.load(run)


def test_the_files_of_a_state_are_hashed_again_only_after_a_change(run, monkeypatch):
    hashed, file_sha256 = [], runs.file_sha256
    monkeypatch.setattr(runs, "file_sha256", lambda path: (hashed.append(path), file_sha256(path))[1])
    newest = resolve(run)
    files = [
        newest / part / name for part in ("backbone", "head") for name in ("model.safetensors", "config.json")
    ]
    assert sorted(hashed) == sorted(path.resolve() for path in files)
    hashed.clear()
    assert resolve(run) == newest
    assert not hashed
    before = files[0].stat().st_mtime_ns
    flip(files[0])
    os.utime(files[0], ns=(before, before + 1))
    with pytest.warns(Unfinished, match="step_0000300 is damaged"):
        assert resolve(run).parent.name == "step_0000200"


def test_the_end_of_a_run_is_newer_than_its_states_unless_it_went_on(run):
    final = save(run, 300, 2, "checkpoint")
    assert resolve(run) == final
    later = save(run, 400, 3)
    assert resolve(run) == later
    assert [(e.source, e.progress) for e in store.entries() if e.name == str(run)] == [
        ("run", "step 400 of 1000")
    ]


def test_a_run_without_a_state_says_so(run):
    shutil.rmtree(run / "state")
    with pytest.raises(ArzooError, match="training run without a saved state that can be used"):
        arzoo.load(run)


def test_commands_take_a_stopped_run(run, capsys, monkeypatch, tiny_data):
    listing = command(capsys, "checkpoints", "ls", "runs/*")
    assert listing.status == 0
    assert re.search("^runs/mine +generator +run, step 300 of 1000", listing.out, re.MULTILINE)
    assert len(listing.out.splitlines()) == 4, "states are not listed on their own"
    with pytest.warns(Unfinished, match="runs/mine is not finished"):
        assert command(capsys, "generate", run, "--num", 2, "--out", "out").status == 0
    monkeypatch.setitem(registry._entries["feature_net"], "tiny", tiny_net)
    options = ["--reference", "ten", "--num", 4, *FAST]
    with pytest.warns(Unfinished, match="step 300 of 1000"):
        scored = command(capsys, "evaluate", run, *options)
    assert scored.status == 0, scored
    assert (
        "runs/mine is not finished, and its training removes older states; --out FOLDER keeps" in scored.err
    )
    with pytest.warns(Unfinished):
        assert command(capsys, "checkpoints", "tag", run, "kept").status == 0
    shutil.rmtree("runs")
    assert command(capsys, "generate", "kept", "--num", 2, "--out", "again").status == 0


def test_a_state_that_its_training_removes_meanwhile_is_said(run):
    checkpoint = open_checkpoint(run)
    shutil.rmtree(run / "state/step_0000300")
    with pytest.raises(ArzooError, match=r"was removed by its training.*same command again"):
        checkpoint.load("backbone")


def test_a_generator_is_not_trained_on_a_tokenizer_that_still_changes(run, capsys, tiny_data):
    Path("runs/moving").mkdir()
    Path("runs/moving/recipe.yaml").touch()
    tiny_tokenizer(Path("runs/moving/state/step_0000010/checkpoint"))
    Path("r.yaml").write_text(
        "task: generator\ndata: ten\nmodel: nar_tiny\nplan: next_neighbor\ntokenizer: runs/moving\n"
    )
    refused = command(capsys, "train", "r.yaml", "--out", "x")
    failing(refused, "runs/moving is not finished", "arzoo checkpoints tag runs/moving NAME")
