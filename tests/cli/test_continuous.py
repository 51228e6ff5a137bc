"""`arzoo generate` with every family of continuous tokens: steps, head steps and solvers, completing and repeating."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import command, failing, picture, tiny_generator, tiny_tokenizer
from continuous import FAMILIES, all_families
from PIL import Image

from arzoo.cli.pictures import read_settings
from arzoo.samplers.schedules import control_to_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Checkpoints of all families, and of the tokenizer beside them."""
    return all_families(tmp_path_factory.mktemp("models"))


def run(capsys, model, out, *options):
    return command(capsys, "generate", model, "--num", 2, "--out", out, *options, "--json")


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("000*.png"))])


@pytest.mark.parametrize("name", ["mar annealed", "xar cells", "xar scales", "flowar", "raster diffusion"])
def test_drawing_and_repeating(capsys, folder, tmp_path, name):
    first = run(capsys, folder / name, tmp_path / "a")
    assert first.status == 0, first.err
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    _, plan, options = FAMILIES[name]
    assert (record["config"]["plan"], record["plan_options"]) == (plan, options.get("plan_options", {}))
    assert record["controls"] == json.loads(json.dumps(control_to_data(options["control"])))
    again = run(capsys, folder / name, tmp_path / "b")
    assert again.status == 0
    assert np.array_equal(pixels(tmp_path / "a"), pixels(tmp_path / "b")), "the command repeats its pictures"
    path = sorted((tmp_path / "a").glob("0001*.png"))[0]
    like = command(capsys, "generate", "--like", path, "--out", tmp_path / "c")
    assert like.status == 0, like.err
    assert np.abs(pixels(tmp_path / "c")[0] - pixels(tmp_path / "a")[1]).max() <= 1, "another batch rounds"


@pytest.mark.parametrize(
    ("name", "options", "calls"),
    [
        ("mar", ["--head-steps", "9:2"], [9, 7, 5, 3, 2]),
        ("mar", ["--head-steps", "9:2", "--head-schedule", "cosine"], [9, 7, 5, 3, 2]),
        ("mar", ["--head-steps", "9:2", "--head-schedule", "two-stage"], [9, 9, 2, 2, 2]),
        ("mar", ["--head-steps", "9:2", "--head-solver", "ddim"], [9, 7, 5, 3, 2]),
        ("mar annealed", [], [9, 7, 5, 3, 2]),
        ("mar annealed", ["--head-steps", "4"], [4] * 5),
        ("mar flow", ["--head-steps", "5:1", "--head-solver", "heun"], [9, 7, 5, 3, 1]),
        ("xar cells", ["--head-steps", "9:3", "--head-schedule", "linear"], [9, 7, 5, 3]),
        ("xar cells", ["--head-steps", "9:3", "--head-schedule", "cosine"], [9, 7, 4, 3]),
        ("xar cells", ["--head-steps", "9:3", "--head-schedule", "two-stage"], [9, 9, 3, 3]),
        ("xar cells", ["--head-steps", "4:1", "--head-solver", "euler"], [4, 3, 2, 1]),
        ("flowar", ["--head-steps", "6:2", "--head-schedule", "linear"], [6, 4, 2]),
        ("flowar", ["--head-steps", "6:2", "--head-schedule", "two-stage"], [6, 2, 2]),
        ("flowar", ["--head-steps", "6:2", "--head-solver", "heun"], [11, 7, 3]),
        ("raster diffusion", ["--head-steps", "3"], [3] * 16),
        ("next-neighbor flow", ["--head-steps", "7:1"], [7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_head_steps(capsys, folder, tmp_path, name, options, calls):
    result = run(capsys, folder / name, tmp_path / "a", *options)
    assert result.status == 0, result.err
    assert result.json["head_calls_per_picture"] == sum(calls)
    assert result.json["passes"] == len(calls)
    assert "no effect" not in result.err


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mar", ["--head-steps", "1"], ["at least 2 head steps", "dpm_solver"]),
        ("mar", ["--head-steps", "5:0"], ["--head-steps '5:0'", "1 to 1000"]),
        ("mar", ["--head-solver", "euler"], ["solver of a diffusion head 'euler'", "ddpm"]),
        ("mar flow", ["--head-solver", "ddpm"], ["solver of flow heads 'ddpm'", "euler"]),
        ("xar cells", ["--head-steps", "2"], ["'euler-maruyama' takes at least 3 head steps, got 2"]),
        ("xar cells", ["--head-steps", "50:1"], ["at least 3 head steps, got 1", "annealed"]),
        ("xar cells", ["--head-steps", "50:0"], ["--head-steps '50:0'", "1 to 1000"]),
        ("flowar", ["--head-steps", "5:1"], ["'euler' takes at least 2 head steps, got 1"]),
        ("flowar", ["--head-steps", "5:0"], ["--head-steps '5:0'"]),
        ("mar", ["--steps", "0"], ["takes 1 to 16 steps, got 0"]),
        ("mar", ["--steps", "-3"], ["takes 1 to 16 steps, got -3"]),
        ("mar", ["--steps", "17"], ["takes 1 to 16 steps, got 17"]),
        ("xar cells", ["--steps", "4"], ["--steps is for masked models", "'cells'", "takes 4 steps"]),
        ("flowar", ["--steps", "4"], ["--steps is for masked models", "'scales'", "takes 3 steps"]),
        ("raster diffusion", ["--steps", "4"], ["'raster'", "takes 16 steps"]),
    ],
)
def test_bad_options(capsys, folder, tmp_path, name, options, words):
    failing(run(capsys, folder / name, tmp_path / "out", *options), *words, status=2)
    assert not (tmp_path / "out").exists()


def test_greedy_is_no_advice_for_vectors(capsys, folder, tmp_path):
    result = run(capsys, folder / "mar", tmp_path / "out", "--temperature", "0")
    failing(result, "--temperature 0 must be above 0", status=2)
    assert "greedy" not in result.err


def test_steps_are_taken_recorded_and_repeated(capsys, folder, tmp_path):
    result = run(capsys, folder / "mar", tmp_path / "a", "--steps", 7)
    assert result.status == 0, result.err
    assert (result.json["passes"], result.json["plan_options"]) == (7, {"steps": 7})
    assert result.json["head_calls_per_picture"] == 7 * 6
    path = sorted((tmp_path / "a").glob("0001*.png"))[0]
    assert read_settings(str(path))["steps"] == 7
    assert command(capsys, "generate", "--like", path, "--out", tmp_path / "b").status == 0
    assert np.abs(pixels(tmp_path / "b")[0] - pixels(tmp_path / "a")[1]).max() <= 1
    run(capsys, folder / "mar", tmp_path / "c")
    assert np.abs(pixels(tmp_path / "c") - pixels(tmp_path / "a")).max() > 1, "other steps, other pictures"


def test_options_override_the_schedules_of_the_checkpoint(capsys, folder, tmp_path):
    changed = run(capsys, folder / "xar cells", tmp_path / "a", "--guidance", "1:5", "--temperature", "0.5")
    controls = changed.json["controls"]
    assert controls["guidance"] == {"schedule": "over_steps", "first": 1.0, "last": 5.0}
    assert controls["head_steps"]["schedule"] == "anneal", "what is not given stays"
    assert controls["temperature"] == 0.5
    part = run(capsys, folder / "xar cells", tmp_path / "b", "--guidance-interval", "0.2:0.8")
    assert part.json["controls"]["guidance"]["scale"] == {"schedule": "over_steps", "first": 1.0, "last": 3.0}


@pytest.mark.parametrize("name", ["mar", "xar cells", "xar whole", "flowar"])
def test_completing_a_picture(capsys, folder, tmp_path, name):
    """The kept tokens are those of the picture; a model that cannot look at all of them says so."""
    source = picture(tmp_path / "photo.png")
    result = run(capsys, folder / name, tmp_path / "a", "--init", source, "--keep", "top")
    assert result.status == 0, result.err
    assert ("not seen" in result.err) == (name == "flowar"), "the upper cells come first"
    free = run(capsys, folder / name, tmp_path / "b")
    assert np.abs(pixels(tmp_path / "a") - pixels(tmp_path / "b")).max() > 20
    if name == "xar cells":
        below = run(capsys, folder / name, tmp_path / "below", "--init", source, "--keep", "bottom")
        assert "not seen" in below.err
        assert (result.json["passes"], free.json["passes"]) == (2, 4), "whole cells are skipped"
    again = command(
        capsys, "generate", "--like", sorted((tmp_path / "a").glob("0000*.png"))[0], "--out", tmp_path / "c"
    )
    assert again.status == 0, again.err
    assert np.abs(pixels(tmp_path / "c")[0] - pixels(tmp_path / "a")[0]).max() <= 1


def test_options_without_effect_are_named(capsys, folder, tmp_path):
    flow = run(capsys, folder / "xar cells", tmp_path / "a", "--max-timestep", "900", "--top-k", "5")
    assert "--max-timestep has no effect: this model draws vectors with head backbone_flow" in flow.err
    assert "--top-k has no effect" in flow.err
    for solver, idle in (("ddpm", False), ("ddim", True), ("dpm_solver", True), ("dpm_solver++", True)):
        options = ("--temperature", "0.5", "--head-solver", solver)
        said = run(capsys, folder / "mar", tmp_path / solver, *options).err
        assert (
            f"--temperature has no effect: this model draws vectors with head diffusion_mlp and solver {solver}"
            in said
        ) == idle
        assert ("no effect" in said) == idle
        plain = run(capsys, folder / "mar", tmp_path / f"plain {solver}", "--head-solver", solver)
        assert plain.status == 0
        same = np.array_equal(pixels(tmp_path / solver), pixels(tmp_path / f"plain {solver}"))
        assert same == idle, "the remark is true"
    said = run(
        capsys, folder / "mar flow", tmp_path / "c", "--temperature", "0.5", "--head-solver", "euler"
    ).err
    assert "no effect" not in said, "there the temperature scales the noise at the start"
    codes = tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    result = run(capsys, codes, tmp_path / "b", "--head-solver", "euler")
    assert "--head-solver has no effect: this model draws codes with head categorical" in result.err


def test_a_dry_run_counts_the_steps(capsys, folder, tmp_path):
    result = run(capsys, folder / "mar", tmp_path / "a", "--steps", "3", "--dry-run")
    assert (result.status, result.json["passes"]) == (0, 3)
    assert not (tmp_path / "a").exists()
