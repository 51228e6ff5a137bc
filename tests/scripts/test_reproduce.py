"""The scripts that measure claims: their arms are valid recipes, budgets are kept, scores are written."""

import json

import pytest
import torch
from scripted import scripts

from arzoo.generation.generator import Generator
from arzoo.train.objective import Objective
from arzoo.train.recipe import load_recipe


@pytest.fixture
def script():
    with scripts("scripts/dev/reproduce") as load:
        yield load


def test_arms_are_valid_recipes_that_differ(script):
    for arms in script("training").ARMS.values():
        recipes = [load_recipe(name, changes) for name, changes in arms.values()]
        assert len({recipe.hash() for recipe in recipes}) == len(recipes) > 1


def test_a_budget_pays_for_whole_steps(script, monkeypatch):
    training = script("training")
    layer = torch.nn.Linear(8, 8)

    class Fixed(Objective):
        parts = {"model": layer}

        def batch(self, step, numbers):
            return torch.ones(len(numbers), 8)

        def loss(self, name, parts, batch, step):
            return parts[name](batch).sum(), {}

    recipe = load_recipe("mar_emoji64")
    monkeypatch.setattr(type(recipe), "build", lambda self: Fixed.__new__(Fixed))
    monkeypatch.setattr(Fixed, "__abstractmethods__", frozenset())
    step = 2 * 2 * recipe.run.batch * 8 * 8  # forward and the gradient of the weights
    assert training.with_budget(recipe, 10.9 * step).run.steps == 10


def test_rows_are_shown(script):
    scorer_module = script("scorer")
    row = {"fd": 301.26, "fd_error": 2.04, "network_calls": 16, "head_calls": 64, "cpu_seconds": 0.1234}
    assert scorer_module.shown(row) == ["301.3 ± 2.0", "16", "64", "0.123"]
    assert scorer_module.shown(row | {"fd_error": None})[0] == "301.3"


def test_every_claim_has_a_title(script):
    training = script("training")
    assert training.TITLES.keys() == training.ARMS.keys()


def test_a_score_counts_what_the_steps_take(script, tmp_path, monkeypatch):
    scorer_module = script("scorer")
    model = Generator.load("raster_emoji64")
    scorer = scorer_module.Scorer("emoji64", 4, [0, 1])
    row = scorer.score("raster", model)
    assert row["network_calls"] == row["head_calls"] == 64
    assert len(set(row["fd_of_seeds"])) == 2
    assert row["fd_error"] > 0
    assert row["cpu_seconds"] > 0
    monkeypatch.setattr(script("claim"), "CLAIMS", tmp_path)
    scorer_module.write(
        "toy", "A toy", scorer, {"raster": row}, ["model"], [["raster", *scorer_module.shown(row)]]
    )
    kept = json.loads((tmp_path / "toy.json").read_text())
    assert (kept["n"], kept["seeds"]) == (4, [0, 1])
    assert [len(line) for line in kept["cells"]] == [len(kept["head"])]


def test_weights_in_fewer_bits_draw_nearly_the_same(script, tmp_path, monkeypatch):
    precision = script("precision")
    monkeypatch.setattr(script("claim"), "CLAIMS", tmp_path)
    arguments = ["nar_emoji64", "--storage", "fp32", "bf16", "--num", "2", "--seeds", "0", "1"]
    monkeypatch.setattr("sys.argv", ["precision.py", *arguments])
    precision.main()
    kept = json.loads((tmp_path / "precision.json").read_text())
    rows = kept["rows"]
    assert rows.keys() == {"nar_emoji64, fp32", "nar_emoji64, bf16"}
    assert abs(rows["nar_emoji64, fp32"]["drift"]) < 1e-6
    assert rows["nar_emoji64, bf16"]["drift"] < 0.5
    assert rows["nar_emoji64, bf16"]["ratio"] > 0
    assert [len(line) for line in kept["cells"]] == [len(kept["head"])] * 2


def test_all_shipped_generators_are_compared(script):
    assert {"nar_emoji64", "mar_emoji64"} <= set(script("precision").generators())
