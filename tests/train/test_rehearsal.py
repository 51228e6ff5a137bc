"""`arzoo train --dry-run`: the plan of the real run, its refusals and its needs, and nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import toy
from command import command, failing, files_of, ten_pictures, tiny_kl_tokenizer, tiny_tokenizer

from arzoo.base import lock, registry
from arzoo.cli.__main__ import main
from arzoo.train.peak import Peak
from arzoo.train.rehearsal import _files
from arzoo.train.settings import RunConfig

PACE = {"steps": 12, "batch": 4, "save_every": 4, "preview_every": 6, "trackers": []}
TOKENIZER = {
    "task": "tokenizer", "data": "large", "model": "vq_4_micro", "run": PACE,
    "loss": {"perceptual": 0.0, "adversarial": 0.1, "adversarial_start": 6, "discriminator_width": 8},
}  # fmt: skip
SMALL = {"task": "generator", "data": "ten", "variants": 1, "run": PACE}
CODES = SMALL | {"tokenizer": "vq", "model": {"name": "raster_tiny", "width": 32, "depth": 1}}
VECTORS = SMALL | {"tokenizer": "kl", "model": {"name": "mar_tiny", "width": 32, "depth": 1}}
VECTORS |= {"plan": {"name": "masked", "steps": 4}, "heads": ["diffusion_mlp_tiny"]}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with recipes, tokenizers, data sets, and an empty cache."""
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setitem(registry._entries["dataset"], "large", lambda: ten_pictures(32))
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer(tmp_path / "vq")
    tiny_kl_tokenizer(tmp_path / "kl")
    for name, recipe in (("tokenizer", TOKENIZER), ("codes", CODES), ("vectors", VECTORS)):
        Path(f"{name}.yaml").write_text(json.dumps(recipe))
    return tmp_path


def train(capsys, recipe, *options):
    out = [] if "--out" in options else ["--out", "run"]
    return command(capsys, "train", f"{recipe}.yaml", *out, *options)


def rehearsed(capsys, recipe, *options):
    """The plan, from a rehearsal that changed no file."""
    before = files_of(Path.cwd())
    result = train(capsys, recipe, *options, "--dry-run", "--json")
    assert files_of(Path.cwd()) == before
    assert result.status == 0, result.err
    return result.json


def refused(capsys, recipe, *options, words, status=1):
    """The rehearsal and the run say the same."""
    before = files_of(Path.cwd())
    said = train(capsys, recipe, *options, "--dry-run")
    assert files_of(Path.cwd()) == before
    failing(said, *words, status=status)
    assert said.err.splitlines()[-1] == train(capsys, recipe, *options).err.splitlines()[-1]


@pytest.mark.parametrize("recipe", ["tokenizer", "codes", "vectors"])
def test_a_run_does_what_its_rehearsal_said(capsys, work, recipe):
    plan = rehearsed(capsys, recipe, "--max-steps", 5)
    assert (plan["steps_done"], plan["steps_left"]) == (0, 5)
    ahead = plan.get("seconds_to_make_codes", 0)
    assert (ahead > 0) == (recipe != "tokenizer"), "there are no codes in the cache"
    assert plan["seconds"] == pytest.approx(5 * plan["seconds_a_step"] + ahead, rel=0.02)
    assert not Path("cache", "codes").exists()
    assert train(capsys, recipe, "--max-steps", 5).status == 0
    there = set(files_of(Path("run"))) - {lock.FILE}
    covers = {
        name: {f for f in there if f == name or f.startswith(name.rstrip("/") + "/")}
        for name in plan["files"]
    }
    assert all(covers.values())
    assert set().union(*covers.values()) == there
    plan = rehearsed(capsys, recipe)
    assert (plan["steps_done"], plan["steps_left"]) == (5, 7)
    assert plan["continues"] == "run/state/step_0000005"
    assert "state/step_0000012/" in plan["files"]
    assert "codes" not in plan, "they are in the cache now"
    assert train(capsys, recipe, "--max-steps", 6).status == 0, "the rehearsal left the run as it was"


def test_memory_has_every_part(capsys, work):
    plan = rehearsed(capsys, "tokenizer")
    memory, trained = plan["memory"], 4 * plan["parameters"]
    assert memory["gradients"] == trained, "the discriminator's too, which comes in late"
    assert memory["moments"] == pytest.approx(2 * trained, rel=0.01)
    assert trained <= memory["weights"] <= 1.6 * trained, "with buffers"
    assert memory["average"] < memory["weights"], "the discriminator is not averaged"
    small = rehearsed(capsys, "tokenizer", "--run.batch", 1)["memory"]
    (key,) = (key for key in memory if key.startswith("activations"))
    assert memory[key] > 2 * small[key] > 0
    assert memory["total"] == sum(v for k, v in memory.items() if k != "total")


def test_refusals_of_settings_and_folders(capsys, work):
    loss = ("--generator.head-steps", 1)
    refused(capsys, "vectors", *loss, words=["at least 2 head steps"])
    refused(capsys, "codes", "--run.sharded", "true", words=["run.sharded", "there is one"])
    refused(capsys, "codes", "--run.trackers", "[board]", words=["tracker 'board'"], status=2)
    assert not Path("run", "recipe.yaml").exists(), "nothing makes the folder look like a run"
    refused(
        capsys, "codes", "--optim.no-decay", "[nothing]", words=["optim.no_decay", "matches no parameter"]
    )
    refused(capsys, "codes", "--resume", "elsewhere", words=["elsewhere holds no saved state"])
    Path("run", "mine.txt").touch()
    refused(capsys, "codes", words=["holds no training run"])


def test_refusals_of_another_run(capsys, work):
    assert train(capsys, "codes", "--max-steps", 4).status == 0
    refused(capsys, "codes", "--optim.lr", "0.5", words=["other settings", "optim.lr"])
    refused(capsys, "codes", "--resume", "never", words=["--resume auto"])
    plan = rehearsed(capsys, "codes", "--resume", "run", "--out", "other", "--optim.lr", "0.5")
    assert (plan["continues"], plan["steps_done"]) == ("run/state/step_0000004", 4)
    Path("vq").rename("before")
    tiny_tokenizer(work / "vq", seed=1)
    refused(capsys, "codes", words=["have changed since", "tokenizer.weights"])


def test_a_folder_in_which_a_process_trains(work, capfd):
    with lock.alone(Path("run")):
        arguments = ["train", "codes.yaml", "--out", "run", "--dry-run"]
        child = toy.in_process(main, arguments)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "error: another process trains in run" in capfd.readouterr().err
    Path("run", lock.FILE).touch()  # as a killed process leaves it
    lock.refuse_busy(Path("run"))
    assert [path.name for path in Path("run").iterdir()] == [lock.FILE]


def test_nothing_is_left_to_do(capsys, work):
    assert train(capsys, "codes").status == 0
    plan = rehearsed(capsys, "codes")
    assert (plan["steps_done"], plan["steps_left"], plan["seconds"]) == (12, 0, 0)
    assert not [name for name in plan["files"] if name.startswith(("state", "latest"))]


@pytest.mark.parametrize(
    ("done", "end", "keep", "steps"),
    [(0, 10, 2, [8, 10]), (0, 12, 2, [8, 12]), (8, 10, 3, [10]), (4, 4, 2, []), (0, 3, 2, [3])],
)
def test_states_that_would_stay(done, end, keep, steps):
    files = _files(RunConfig(steps=20, save_every=4, keep=keep), done, end, [])
    assert [name for name in files if name.startswith("state")] == [f"state/step_{s:07d}/" for s in steps]
    assert ("latest" in files) == bool(steps)


def test_the_peak_counts_what_is_alive_at_once():
    base = torch.zeros(1000)
    with Peak() as peak:
        base.add_(1)
        view = base[:10]
        one = torch.ones(1000)
        two = one + base
        del one
        three = two * 2
        del two, three
    assert (peak.most, peak.live) == (8000, 0)
    assert len(view) == 10


def test_the_peak_of_a_step_has_what_backward_needs():
    layers = torch.nn.Sequential(
        *(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()) for _ in range(4))
    )
    with Peak() as peak:
        layers(torch.zeros(1000, 8)).sum().backward()
    tensor, gradients = 4 * 8000, 4 * (64 + 8) * 4
    assert 9 * tensor <= peak.most <= 12 * tensor
    assert peak.live == gradients
