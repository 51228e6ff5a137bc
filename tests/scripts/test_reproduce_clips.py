"""The claim about orders of clips: equal networks, the calls of every arm, and all of it on a toy."""

import json
import sys

import pytest
from ordered import build
from scripted import scripts
from squares import moving_squares
from tiny_net import TinyClipNet, TinyNet

from arzoo.base import registry
from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import save_parts
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
from arzoo.tokenizers.nbp.presets import clip_micro
from arzoo.train.recipe import load_recipe


@pytest.fixture
def script():
    with scripts("scripts/dev/reproduce") as load:
        yield load


def test_arms_differ_in_the_order_alone(script):
    grid = Grid(5, 8, 8)
    recipes = {label: load_recipe(*arm) for label, arm in script("clips").arms(grid).items()}
    plans = {
        label: registry.create("plan", recipe.plan.name, layout=grid, **recipe.plan.settings)
        for label, recipe in recipes.items()
    }
    assert {label: len(plan) for label, plan in plans.items()} == {
        "next-neighbor": 19, "parallel": 83, "raster": 320, "row": 47, "row, causal": 47, "half frame": 41, "frame": 68
    }  # fmt: skip
    assert plans["row, causal"].causal
    assert len({recipe.hash() for recipe in recipes.values()}) == len(recipes)
    # How long an arm trains follows from the operations it is given.
    neighbors, rows = recipes.pop("next-neighbor"), recipes["row"]
    neighbors = neighbors.replace(run=rows.run)
    for recipe in recipes.values():
        assert recipe.replace(plan={"name": "raster"}) == rows.replace(plan={"name": "raster"})
    alike = {"plan": {"name": "raster"}, "model": {"name": "raster_tiny"}}
    assert neighbors.replace(**alike) == rows.replace(**alike)
    nets = [registry.lookup("backbone", recipe.model.name)() for recipe in (neighbors, rows)]
    assert len({(net.width, net.hidden, net.depth + net.axes - 1) for net in nets}) == 1, (
        "equally many blocks"
    )


def test_frames_of_tokens_end_with_frames(script):
    clips = script("clips")
    causal = TokenSpec(Grid(5, 8, 8), vocab=8, downscale=(4, 8, 8), first_alone=True)
    plain = TokenSpec(Grid(4, 8, 8), vocab=8, downscale=(4, 8, 8))
    assert clips.last_frames(causal, 17) == [0, 4, 8, 12, 16]
    assert clips.last_frames(plain, 16) == [3, 7, 11, 15]


def test_later_frames_are_compared_with_the_first_seed_by_seed(script):
    by_seed = [
        {"fd": [10.0 * seed], "kid": [0.5], "fd_by_frame": [1.0, 2.0, 3.0], "kid_by_frame": [seed, seed + 1, seed + 3]}
        for seed in (1.0, 2.0)
    ]  # fmt: skip
    row = script("clips").over_all_seeds(by_seed)
    assert row["fd"] == [(15.0, pytest.approx(5.0))]
    assert row["kid_by_frame"][2] == (4.5, pytest.approx(0.5))
    assert (row["first"], row["later"]) == ([(1.5, pytest.approx(0.5))], [(3.5, pytest.approx(0.5))])
    assert row["fall"] == [(2.0, 0.0)], "it is the same for all seeds"
    assert script("clips").over_all_seeds(by_seed[:1])["fall"] == [(2.0, None)]


@pytest.fixture
def tokenizer(tmp_path):
    """A checkpoint of a tokenizer of 5 x 32 x 32 clips with random weights."""
    model = build(clip_micro())
    save_parts(tmp_path / "tokenizer", "tokenizer", {"tokenizer": model}, spec=model.spec.to_dict())
    return str(tmp_path / "tokenizer")


@pytest.fixture
def run(script, tokenizer, tmp_path, monkeypatch):
    """A function that runs the claim with tiny networks on a toy, and returns the figures that it wrote."""
    clips = script("clips")
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry._entries["dataset"], "squares", lambda size, frames: moving_squares())
    nets = {"tiny": TinyNet().eval(), "tiny_clips": TinyClipNet().eval()}
    monkeypatch.setattr(clips, "feature_net", nets.get)
    monkeypatch.setattr(script("claim"), "CLAIMS", tmp_path / "claims")
    (tmp_path / "claims").mkdir()
    made = clips.arms

    def small_arms(grid):
        """Networks of three blocks each."""
        depths = {"next-neighbor": 1}
        return {
            label: (name, {**changes, "model": {"depth": depths.get(label, 3)}})
            for label, (name, changes) in made(grid).items()
        }

    monkeypatch.setattr(clips, "arms", small_arms)

    def run_claim(*options):
        given = ("--tokenizer", tokenizer, "--data", "squares", "--net", "tiny_clips", "--eyes", "tiny")
        where = ("--runs", str(tmp_path / "runs"), "--precision", "fp32", "--flops", "3e8", "--width", "32")
        monkeypatch.setattr(sys, "argv", ["clips.py", *given, *where, *options])
        clips.main()
        claim = json.loads((tmp_path / "claims" / "clips.json").read_text())
        assert {len(line) for line in claim["cells"]} == {len(claim["head"])}
        return claim

    return run_claim


def test_every_arm_is_trained_once_and_scored(run, script, tmp_path, monkeypatch):
    clips = script("clips")
    claim = run("--num", "4", "--seeds", "0", "1")
    rows = claim["rows"]
    assert list(rows) == ["reconstructions", *clips.arms(Grid(2, 4, 4))]
    rebuilt = rows.pop("reconstructions")
    assert (claim["n"], claim["noun"], claim["seeds"]) == (4, "clips", [0, 1])
    assert claim["protocol"]["frames looked at"] == [0, 4]
    assert rebuilt["cpu_seconds"] > 0
    assert "network_calls" not in rebuilt
    calls = {label: row["network_calls"] for label, row in rows.items()}
    assert calls == {
        "next-neighbor": 8, "parallel": 11, "raster": 32, "row": 11, "row, causal": 11, "half frame": 11, "frame": 17
    }  # fmt: skip
    steps = [row["steps"] for row in rows.values()]
    assert 2 <= min(steps) <= max(steps) <= 3, "networks are equal but for readouts"
    for row in rows.values():
        assert row["fd"][0][1] is not None
        assert len(row["fd_by_frame"]) == len(row["kid_by_frame"]) == 2
        assert row["losses"]["validation_loss"] > 0
    assert (tmp_path / "claims" / "clips.png").stat().st_size > 0
    logs = {path: path.read_text() for path in (tmp_path / "runs").glob("*/log.jsonl")}
    assert len(logs) == len(rows)
    few = {label: arm for label, arm in clips.arms(Grid(2, 4, 4)).items() if label == "row, causal"}
    monkeypatch.setattr(clips, "arms", lambda grid: few)
    again = run("--num", "4", "--seeds", "0", "1")
    assert {path: path.read_text() for path in (tmp_path / "runs").glob("*/log.jsonl")} == logs, (
        "not trained again"
    )
    assert again["rows"]["row, causal"]["fd_by_frame"] == rows["row, causal"]["fd_by_frame"]


def test_a_tokenizer_of_pictures_is_refused(run):
    with pytest.raises(UsageError, match="vq_emoji64 has Grid"):
        run("--tokenizer", "vq_emoji64")
