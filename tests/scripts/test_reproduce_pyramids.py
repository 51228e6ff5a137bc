"""The claims about pyramids and about annealing in two stages: arms, equal operations, and all of it on toys."""

import json
import sys
from dataclasses import replace

import pytest
from command import tiny_kl_tokenizer, tiny_tokenizer
from next_scale import multi_scale_tokenizer
from scripted import scripts
from squares import moving_squares
from tiny_net import TinyNet
from two_stages import two_stage_generator

from arzoo.base import registry
from arzoo.base.errors import UsageError
from arzoo.generation.generator import Generator
from arzoo.samplers import schedules
from arzoo.train.recipe import load_recipe

TINY = {"width": 32, "depth": 1, "heads": 2, "dropout": 0.0}


def small_squares(size=None, frames=None):
    """First frames of the clips, in 16 x 16 pixels."""
    clips = moving_squares()
    return replace(clips, name="squares", images=clips.images[:, 0, ::2, ::2].contiguous())


@pytest.fixture
def script(tmp_path, monkeypatch):
    registry.names("dataset")
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry._entries["dataset"], "squares", small_squares)
    with scripts("scripts/dev/reproduce") as load:
        monkeypatch.setattr(load("scorer"), "feature_net", lambda: TinyNet().eval())
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path / "claims")
        (tmp_path / "claims").mkdir()
        yield load


def figures(tmp_path, name):
    claim = json.loads((tmp_path / "claims" / f"{name}.json").read_text())
    assert {len(line) for line in claim["cells"]} == {len(claim["head"])}
    return claim


def test_arms_of_pivots_differ_in_pivots_and_heads_alone(script):
    pivots = script("pyramid_pivots")
    recipes = {label: load_recipe(*arm) for label, arm in pivots.ARMS.items()}
    assert next(iter(recipes)) == pivots.DIT, "the first arm sets the operations of drawing"
    dit, mlp, plain = (recipes[label] for label in (pivots.DIT, pivots.MLP, pivots.PLAIN))
    assert dit.replace(heads=mlp.heads) == mlp
    assert [head.name for head in mlp.heads] == ["diffusion_mlp_tiny"] * 2
    alike = {"model": dit.model, "heads": dit.heads, "plan": dit.plan, "run": dit.run}
    assert plain.replace(**alike, generator=dit.generator) == dit


def test_the_nearest_cost_is_found(script):
    nearest = script("pyramid_pivots").nearest
    for target, expected in ((0, 1), (24, 2), (26, 3), (1e9, 9), (90, 9), (84, 8), (86, 9)):
        assert nearest(lambda n: 10 * n, target, 9) == expected, target
    assert nearest(lambda n: n, 5, 1) == 1


def test_operations_of_drawing_follow_from_steps_and_head_steps(script, tmp_path):
    operations, with_steps = script("scorer").sampling_operations, script("pyramid_pivots").with_steps
    model = two_stage_generator(tmp_path / "tok")
    few, many = (operations(with_steps(model, steps)) for steps in (1, 3))
    assert 0 < few < many == operations(model)

    def cost(**knobs):
        other = model.with_plan()
        other.control = replace(model.control, **knobs)
        return operations(other)

    longer = [cost(head_steps=schedules.by_stage(4, steps)) for steps in (8, 12)]
    assert longer[1] - longer[0] == longer[0] - many > 0, "constant head steps cost the same each"
    assert 1.9 * many < cost(guidance=2.0) < 2.1 * many, "both branches count"


def test_pivots_are_compared_at_equal_operations(script, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pivots, tokenizer = script("pyramid_pivots"), str(tiny_kl_tokenizer(tmp_path / "tok"))
    loss = {"guidance": 1.0, "head_steps": 3, "shown_warmup": 1}
    for label, (name, changes) in list(pivots.ARMS.items()):
        steps = {"steps": 4} if label == pivots.PLAIN else {"steps": [2, 3], "levels": [2, 4]}
        tiny = {"tokenizer": tokenizer, "model": TINY, "variants": 0, "plan": steps, "generator": loss}
        names = [head.name for head in load_recipe(name, changes).heads]
        tiny["heads"] = [{"name": head, "hidden": 32, "depth": 1} for head in names]
        monkeypatch.setitem(pivots.ARMS, label, (name, {**changes, **tiny}))
    runs = ["--runs", str(tmp_path / "runs"), "--precision", "fp32", "--flops", "3e8"]
    options = ["--data", "squares", "--num", "4", "--seeds", "0", "1", "--dense-steps", "1", "3"]
    monkeypatch.setattr(sys, "argv", ["pyramid_pivots.py", *runs, *options])
    pivots.main()
    claim = figures(tmp_path, "pivots")
    rows = claim["rows"]
    by_arm = {label: [row for key, row in rows.items() if key.startswith(label)] for label in pivots.ARMS}
    assert [len(by_arm[pivots.DIT]), claim["n"], claim["seeds"]] == [2, 4, [0, 1]]
    assert [row["network_calls"] for row in by_arm[pivots.DIT]] == [3, 5]
    for label, arm in by_arm.items():
        assert arm[0]["steps"] >= 1
        assert all(row["fd_error"] is not None for row in arm)
        costs = [row["sampling_flops"] for row in arm]
        assert costs == sorted(costs), label
    target, found = (by_arm[label][-1]["sampling_flops"] for label in (pivots.DIT, pivots.MLP))
    assert abs(found / target - 1) < 0.5
    assert (tmp_path / "claims" / "pivots.png").stat().st_size > 0


def test_orders_are_compared_with_reconstructions_by_their_tokenizers(script, tmp_path, monkeypatch):
    scales = script("pyramid_scales")
    codes, grid = str(multi_scale_tokenizer(tmp_path / "codes")), str(tiny_tokenizer(tmp_path / "grid"))
    made = scales.arms

    def small_arms(tokenizer):
        tiny = {"variants": 0, "generator": {"guidance": 1.0}}
        return {
            label: (
                name,
                {"tokenizer": grid, **changes, **tiny, "model": {"width": 32, "depth": 1, "heads": 2}},
            )
            for label, (name, changes) in made(tokenizer).items()
        }

    assert {name: arm[0] for name, arm in made(codes).items()} == {
        "next-scale": "var_emoji64", "next-neighbor": "nar_emoji64", "raster": "raster_emoji64"
    }  # fmt: skip
    monkeypatch.setattr(scales, "arms", small_arms)
    runs = ["--runs", str(tmp_path / "runs"), "--precision", "fp32", "--flops", "2e8", "--tokenizer", codes]
    monkeypatch.setattr(
        sys, "argv", ["pyramid_scales.py", *runs, "--data", "squares", "--num", "4", "--seeds", "0", "1"]
    )
    scales.main()
    rows = figures(tmp_path, "next_scale")["rows"]
    assert [rows[label].get("network_calls") for label in rows] == [3, 7, 16, None, None]
    assert [label for label in rows if label.startswith("reconstructions")] == [
        f"reconstructions by {name}" for name in ("codes", "grid")
    ]
    for label, row in rows.items():
        assert row["cpu_seconds"] > 0
        assert (row["fd_error"] is None) == label.startswith("reconstructions")
        assert label.startswith("reconstructions") or row["sampling_flops"] > 0
    monkeypatch.setattr(sys, "argv", ["pyramid_scales.py", "--tokenizer", grid])
    with pytest.raises(UsageError, match="must have a pyramid of codes"):
        scales.main()


def test_stages_anneal_together_or_alone(script, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    annealing = script("annealing")
    two_stage_generator(tmp_path / "tok").save(tmp_path / "himar")
    monkeypatch.setattr(Generator, "load", lambda name: load(name, tmp_path / "tok"))
    few = {"constant": {"6": 6, "100 pivots, 250 dense": schedules.by_stage(3, 9)}, "annealed": {
        "6 to 2": schedules.anneal(6, 2)}, "annealed in a stage": {
        "dense": schedules.by_stage(6, schedules.anneal(6, 2))}}  # fmt: skip
    whole = annealing.kinds(2)
    assert whole.keys() == few.keys()
    assert annealing.kinds(1).keys() == {"constant", "annealed"}
    assert not any("pivots" in label for steps in annealing.kinds(1).values() for label in steps)
    monkeypatch.setattr(annealing, "kinds", lambda stages: few)
    options = ["--data", "squares", "--num", "2", "--seeds", "0", "1"]
    name = str(tmp_path / "himar").strip("/").replace("/", "_")
    monkeypatch.setattr(sys, "argv", ["annealing.py", str(tmp_path / "himar"), *options])
    annealing.main()
    rows = figures(tmp_path, f"annealing_{name}")["rows"]
    assert {label: row["head_calls"] for label, row in rows.items()} == {
        "6": 30, "100 pivots, 250 dense": 33, "6 to 2": 6 + 2 + 6 + 4 + 2, "dense": 12 + 12
    }  # fmt: skip
    assert {label: row["dense_head_calls"] for label, row in rows.items()} == {
        "6": 18, "100 pivots, 250 dense": 27, "6 to 2": 12, "dense": 12
    }  # fmt: skip
    assert (tmp_path / "claims" / f"annealing_{name}.png").stat().st_size > 0


load = Generator.load
