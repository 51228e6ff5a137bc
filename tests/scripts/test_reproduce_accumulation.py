"""The claim about errors that add up along a picture: its figures are right, and all of it on a toy."""

import json
import shutil
import sys

import pytest
import torch
from command import ten_pictures, tiny_tokenizer
from scripted import scripts

from arzoo.base import registry
from arzoo.base.errors import UsageError
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe

RECIPE = """
task: generator
data: ten
tokenizer: {folder}/tok
model: {{name: mamba_tiny, head_width: 16, state_size: 8, width: 16, depth: 1}}
plan: {{name: raster}}
variants: 1
run: {{steps: 2, batch: 4, log_every: 1}}
"""


@pytest.fixture
def script():
    with scripts("scripts/dev/reproduce") as load:
        yield load


def test_growth_is_taken_seed_by_seed(script):
    row = script("accumulation").summary([[1.0, 2.0, 3.0, 5.0], [2.0, 2.0, 3.0, 8.0]])
    assert row["by_stretch"][0] == (1.5, pytest.approx(0.5))
    assert row["first"] == (1.5, pytest.approx(0.5))
    assert row["last"] == (6.5, pytest.approx(1.5))
    assert row["growth"] == (5.0, pytest.approx(1.0))
    assert script("accumulation").summary([[1.0, 2.0]])["growth"] == (1.0, None)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a recipe over tiny pictures and a judge."""
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    tiny_tokenizer(tmp_path / "tok")
    (tmp_path / "toy.yaml").write_text(RECIPE.format(folder=tmp_path))
    run(load_recipe(str(tmp_path / "toy.yaml")), tmp_path / "judge")
    shutil.copytree(tmp_path / "tok", tmp_path / "judge" / "checkpoint" / "tok")
    return tmp_path


def test_all_arms_are_trained_and_judged(script, toy, monkeypatch):
    accumulation = script("accumulation")
    monkeypatch.setattr(script("claim"), "CLAIMS", toy / "claims")
    monkeypatch.setattr(accumulation, "ARMS", {"next": {}, "all three, curriculum": {"curriculum": True}})
    given = ["--recipe", str(toy / "toy.yaml"), "--judge", str(toy / "judge" / "checkpoint"), "--data", "ten"]
    size = ["--width", "16", "--depth", "1", "--flops", "5e6", "--num", "1", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", ["accumulation.py", *given, *size, "--runs", str(toy / "runs")])
    accumulation.main()
    claim = json.loads((toy / "claims" / "accumulation.json").read_text())
    assert {len(line) for line in claim["cells"]} == {len(claim["head"])}
    next_, mixed = claim["rows"].values()
    assert next_["steps"] > mixed["steps"] >= 1, "more losses take more operations a step"
    assert len(next_["by_stretch"]) == 16
    assert "validation_next_all_loss" in mixed["losses"]
    assert (toy / "claims" / "accumulation.png").stat().st_size > 0
    arguments = accumulation.options().parse_args([*given[:-1], "emoji32"])
    with pytest.raises(UsageError, match="with the classes of emoji32"):
        accumulation.judge_of(arguments)


def test_true_tokens_have_no_error(script, toy, monkeypatch):
    accumulation = script("accumulation")
    arguments = accumulation.options().parse_args(
        ["--judge", str(toy / "judge" / "checkpoint"), "--data", "ten", "--num", "1"]
    )
    judge, _ = accumulation.judge_of(arguments)
    codes = torch.zeros(1, 16, dtype=torch.long)
    monkeypatch.setattr(judge, "drawn", lambda model, seed: codes)
    expected = (judge.surprise(codes) - judge.true)[0].tolist()
    assert judge.errors(None, 0) == pytest.approx(expected, abs=1e-6)
    judge.true = judge.surprise(codes)
    assert judge.errors(None, 0) == [0.0] * 16
