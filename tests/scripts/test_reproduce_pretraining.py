"""The claim about pre-training of networks of volumes: every arm trains and is scored, on a toy."""

import json
import sys

import pytest
from scripted import scripts

from arzoo.data import volume_sets
from arzoo.data.em import em_synthetic
from arzoo.train.recipe import load_recipe

ARMS = ("none", "next and all later", "none, affinities for both parts")
SIDES = ("4", "24", "24")
WINDOW, PATCH = [4, 20, 20], [2, 10, 10]
SMALL = {
    "model": {"widths": [4, 6], "hidden": 6, "slices": 1},
    "segmenter": {"window": WINDOW, "patch": PATCH},
    "run": {"batch": 1, "log_every": 1, "save_every": 1},
}
HEAD = {"resampler": {"crop": WINDOW, "patch": PATCH, "width": 2}}


@pytest.mark.slow
def test_every_arm_is_trained_and_scored(monkeypatch, tmp_path):
    def small_volume(seed=0):
        return em_synthetic(tuple(map(int, SIDES)), seed)

    def small(name, changes):
        recipe = load_recipe(name, changes).replace(**SMALL)
        head = HEAD if name == "segmamba_em_pretrain" else {}
        return recipe.replace(model=recipe.model.replace(**SMALL["model"], **head))

    monkeypatch.setattr(volume_sets, "em_synthetic", small_volume)
    monkeypatch.setattr(sys, "argv", ["pretraining.py", "--flops", "3e7", "--pretraining", "3e7", "--volumes", "1",
                                      "--seeds", "0", "1", "--runs", str(tmp_path / "runs"),
                                      "--sides", *SIDES, "--arms", *ARMS])  # fmt: skip
    with scripts("scripts/dev/reproduce") as load:
        script = load("pretraining")
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path)
        monkeypatch.setattr(script, "load_recipe", small)
        script.main()
    record = json.loads((tmp_path / "pretraining.json").read_text())
    assert list(record["rows"]) == [*ARMS]
    for row in record["rows"].values():
        assert row["voi"][0] == pytest.approx(row["voi_split"][0] + row["voi_merge"][0])
    # Per seed: one arm alone, one in two parts, one longer; the first is not the third, which has more steps.
    assert len(list((tmp_path / "runs").iterdir())) == 2 * 4
