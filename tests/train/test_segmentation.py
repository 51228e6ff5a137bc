"""Training of networks of volumes: every task lowers its loss, runs continue bit for bit, and mistakes are refused."""

from __future__ import annotations

import json

import pytest
import torch
from command import command, failing
from toy import same, whole_and_in_parts

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.draws import Draws
from arzoo.data import volume_sets
from arzoo.data.em import em_synthetic
from arzoo.data.volume_files import read_labels, write_volume
from arzoo.segmentation.segmenter import Segmenter, UnlikeVoxels
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe
from arzoo.train.segmentation import SegmenterObjective, hidden_window, task_losses
from arzoo.train.segmenter_settings import SegmenterTraining

WINDOW, PATCH = (4, 20, 20), (2, 10, 10)
HEAD = {"crop": list(WINDOW), "patch": list(PATCH), "width": 2}
PRETRAINED = {"out_channels": 1, "resampler": HEAD}
SMALL = {"name": "segmamba_tiny", "widths": [4, 6], "hidden": 6, "slices": 1}


@pytest.fixture(autouse=True)
def small_volumes(monkeypatch):
    """Synthetic volumes of 8 x 32 x 32 voxels."""
    monkeypatch.setattr(volume_sets, "em_synthetic", lambda seed=0: em_synthetic((8, 32, 32), seed))


def recipe(model=None, steps=8, **segmenter):
    whole = {
        "model": SMALL | (model or {}),
        "segmenter": {"volumes": 2, "window": list(WINDOW), "patch": list(PATCH), **segmenter},
        "run": {
            "steps": steps,
            "batch": 2,
            "log_every": 1,
            "preview_every": 100,
            "save_every": 4,
            "threads": 0,
        },
        "optim": {"lr": 3e-3, "warmup": 2},
    }
    return load_recipe("segmamba_em", whole)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").open()]


@pytest.mark.parametrize(
    ("model", "tasks"),
    [
        ({}, {"affinities": 1.0}),
        (PRETRAINED, {"affinities": 0.0, "random": 1.0, "next": 1.0, "next_all": 1.0}),
        ({"out_channels": 1}, {"affinities": 0.0, "masked": 1.0, "fill": "zeros", "share": 0.75}),
        (PRETRAINED, {"affinities": 0.0, "curriculum": True}),
    ],
    ids=["affinities", "mixture", "masked", "curriculum"],
)
def test_it_learns_and_continues_bit_for_bit(tmp_path, model, tasks):
    whole = recipe(model, **tasks)
    states = whole_and_in_parts(lambda out, end: run(whole, out, end), tmp_path, 5, 8)
    assert same(*states)
    lines = log(tmp_path / "whole")
    names = set(whole.segmenter.tasks)
    assert names <= lines[0].keys()
    if not whole.segmenter.curriculum:
        assert lines[-1]["loss"] < lines[0]["loss"]
    assert {f"validation_{name}" for name in names} <= lines[-1].keys()
    assert (tmp_path / "whole" / "previews" / "slices_0000008.png").exists()
    checkpoint = open_checkpoint(tmp_path / "whole" / "checkpoint", "segmenter")
    assert checkpoint.index["volumes"] == {"window": list(WINDOW), "voxel_size": [35.0, 8.0, 8.0]}


def objective(steps=10, **segmenter):
    whole = recipe({"out_channels": 1, "resampler": HEAD}, affinities=0.0, **segmenter)
    return whole.replace(run={"steps": steps}).build()


def test_windows_follow_from_the_sample_alone():
    made = objective(random=1.0)
    both, second = made.batch(0, [3, 4]), made.batch(7, [4])
    assert torch.equal(both.voxels[1:], second.voxels)
    assert torch.equal(hidden_window(both, made.settings)[1:], hidden_window(second, made.settings))


def test_the_masked_autoencoder_is_asked_about_hidden_voxels_alone():
    class Zeros(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return torch.zeros_like(x)

    seen, settings = (
        [],
        SegmenterTraining(affinities=0, masked=1.0, window=WINDOW, patch=PATCH, share=0.5, fill="zeros"),
    )
    made = SegmenterObjective.__new__(SegmenterObjective)
    made.settings = settings
    voxels = torch.full(WINDOW, 51, dtype=torch.uint8)
    batch = made._batch([(voxels, None)], Draws([1]))
    losses = task_losses(Zeros(), batch, settings)
    assert float(losses["masked"]) == pytest.approx(0.2**2)
    assert float((seen[0] == 0).float().mean()) == 0.5


def test_the_curriculum_moves_from_random_to_all_later_tokens():
    settings = SegmenterTraining(affinities=0, curriculum=True)
    assert settings.tasks == ("random", "next", "next_all")
    for progress, leader in ((0.0, "random"), (0.5, "next"), (1.0, "next_all")):
        weights = settings.weights(progress)
        assert max(weights, key=weights.__getitem__) == leader
        assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"affinities": 0.0}, "nothing is to be learned"),
        ({"random": 1.0}, "affinities or voxels, and the recipe has affinities, random"),
        ({"affinities": 0.0, "curriculum": True, "next": 1.0}, "the recipe has next: leave these out"),
        ({"share": 1.5}, "segmenter.share"),
        ({"window": (0, 8, 8)}, "segmenter.window"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ArzooError, match=words):
        SegmenterTraining(**settings)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ({}, {"affinities": 0.0, "random": 1.0}, "set model.out_channels=1"),
        ({"out_channels": 1}, {}, "affinities along z, y and x: set model.out_channels=3"),
        ({"out_channels": 1}, {"affinities": 0.0, "next": 1.0}, "needs a head of the next token"),
        ({"out_channels": 1}, {"affinities": 0.0, "random": 1.0, "patch": [3, 10, 10]}, "do not tile"),
        ({}, {"window": [16, 20, 20]}, "less than a window of 16 x 20 x 20"),
    ],
)
def test_networks_and_volumes_that_do_not_fit_are_refused(model, settings, words):
    with pytest.raises(ArzooError, match=words):
        recipe(model, **settings).build()


def test_files_are_trained_on_held_out_at_their_end_and_segmented(tmp_path, capsys):
    """A pre-trained network goes on to affinities; the trained one segments a file, and its segments are scored."""
    folder, volume = tmp_path / "volumes", em_synthetic((20, 32, 32), 1)
    folder.mkdir()
    write_volume(folder / "one_inputs.h5", volume.voxels, volume.voxel_size)
    write_volume(folder / "one_labels.h5", volume.labels, volume.voxel_size)
    train, held_out = volume_sets.training_parts(str(folder), 1)
    assert (train[0].sides, held_out[0].sides, held_out[0].first) == ((16, 32, 32), (4, 32, 32), 16)
    assert torch.equal(held_out[0].crop((0, 1, 2), (4, 8, 8))[1], volume.labels[16:, 1:9, 2:10])
    (folder / "one_labels.h5").rename(tmp_path / "one_labels.h5")
    with pytest.raises(ArzooError, match=r"one_inputs.h5.* has no labels.*NAME_labels.h5 beside"):
        recipe().replace(data=str(folder)).build()
    (tmp_path / "one_labels.h5").rename(folder / "one_labels.h5")
    settings = {"window": [4, 20, 20], "patch": [2, 10, 10]}
    run(recipe(PRETRAINED, 2, affinities=0.0, random=1.0, **settings), tmp_path / "pre", 2)
    fine = recipe({}, 4, **settings).replace(init=str(tmp_path / "pre" / "checkpoint"))
    with pytest.warns(UserWarning, match="fresh: those of out"):
        run(fine, tmp_path / "fine", 4)
    assert log(tmp_path / "fine")[-1]["validation_voi"] >= 0
    with pytest.raises(ArzooError, match="pre-trained only"):
        Segmenter.load(tmp_path / "pre" / "checkpoint")
    out = tmp_path / "cells.h5"
    result = command(
        capsys, "segment", folder / "one_inputs.h5", "--checkpoint", tmp_path / "fine", "--out", out, "--json"
    )
    assert result.status == 0, result.err
    assert result.json["sides"] == [20, 32, 32]
    assert result.json["segments"] == len(read_labels(out).unique()) - bool((read_labels(out) == 0).any())
    assert out.with_suffix(".png").exists()
    assert json.loads(out.with_suffix(".json").read_text())["method"] == "mean_affinity"
    failing(command(capsys, "segment", folder / "one_inputs.h5", "--out", out), f"{out} exists")
    scores = command(
        capsys, "evaluate", out, "--reference", folder / "one_labels.h5", "--task", "segmentation", "--json"
    )
    figures = scores.json["figures"]
    assert figures["voi"]["value"] == pytest.approx(
        figures["voi_split"]["value"] + figures["voi_merge"]["value"]
    )
    own = command(
        capsys,
        "evaluate",
        tmp_path / "fine",
        "--reference",
        folder / "one_inputs.h5",
        "--task",
        "segmentation",
        "--json",
    )
    for name, figure in own.json["figures"].items():
        assert figure["value"] == pytest.approx(figures[name]["value"])
    assert any(name.startswith("voi@") for name in open_checkpoint(tmp_path / "fine").metrics)
    failing(
        command(capsys, "evaluate", out, "--task", "segmentation"),
        "give their file with --reference",
        status=2,
    )


def test_labels_without_a_cell_are_refused(tmp_path):
    volume = em_synthetic((20, 32, 32), 1)
    write_volume(tmp_path / "one_inputs.h5", volume.voxels, volume.voxel_size)
    labels = volume.labels.clone()
    labels[16:] = 0
    write_volume(tmp_path / "one_labels.h5", labels, volume.voxel_size)
    with pytest.raises(ArzooError, match="held out have no cell: labels count from 1"):
        recipe().replace(data=str(tmp_path)).build()


@pytest.fixture
def trained(tmp_path):
    run(recipe(steps=1), tmp_path / "run", 1)
    return tmp_path / "run"


def test_a_rehearsal_of_segmenting_says_what_would_be_and_writes_nothing(capsys, trained, tmp_path):
    out = tmp_path / "cells.nii.gz"
    result = command(
        capsys, "segment", "em_synthetic", "--checkpoint", trained, "--out", out, "--dry-run", "--json"
    )
    assert result.json["files"] == ["cells.nii.gz", "cells.png", "cells.json"]
    assert result.json["memory"]["volume"] == 60 * 8 * 32 * 32
    assert result.json["seconds"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    shown = command(capsys, "segment", "em_synthetic", "--checkpoint", trained, "--out", out, "--dry-run")
    assert "cells.nii.gz" in shown.out


def test_a_zarr_of_segments_is_replaced_only_if_it_may_be(capsys, trained, tmp_path):
    arguments = ("segment", "em_synthetic", "--checkpoint", trained, "--out", tmp_path / "cells.zarr")
    assert command(capsys, *arguments).status == 0
    failing(command(capsys, *arguments), "cells.zarr exists", "--overwrite")
    again = command(capsys, *arguments, "--overwrite", "--threshold", "0", "--json")
    assert len(read_labels(tmp_path / "cells.zarr").unique()) - 1 <= again.json["segments"]
    failing(command(capsys, *arguments, "--overlap", "1"), "from 0 to below 1, got 1", status=2)


def test_options_of_pictures_are_refused_for_segments(capsys, trained, monkeypatch):
    arguments = ("evaluate", trained, "--task", "segmentation")
    words = "--num, --dry-run: of pictures, not of segments"
    failing(command(capsys, *arguments, "--num", "5", "--dry-run"), words, status=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    failing(command(capsys, *arguments), "works in one process", status=2)


def test_steps_do_not_follow_from_volumes():
    with pytest.raises(ArzooError, match=r"does not follow from volumes: set run\.steps"):
        recipe().replace(run={"steps": 0, "visits": 2.0})


def test_the_hash_of_the_data_follows_voxels_and_labels(tmp_path):
    def hashed(voxels, labels):
        write_volume(tmp_path / "one_inputs.h5", voxels, overwrite=True)
        write_volume(tmp_path / "one_labels.h5", labels, overwrite=True)
        return volume_sets.parts_sha256(volume_sets.training_parts(str(tmp_path), 1)[0])

    voxels, labels = torch.zeros(5, 4, 4, dtype=torch.uint8), torch.ones(5, 4, 4, dtype=torch.int64)
    first = hashed(voxels, labels)
    assert hashed(voxels, labels) == first
    assert hashed(voxels + 1, labels) != first
    assert hashed(voxels, labels + 1) != first


def test_voxels_of_another_size_are_warned_of(tmp_path):
    run(recipe(steps=1), tmp_path / "run", 1)
    segmenter = Segmenter.load(tmp_path / "run" / "checkpoint")
    volume = em_synthetic((4, 20, 20))

    class Unknown:
        name, voxel_size, sides, read = "scan", None, volume.sides, volume.read

    class Cubes(Unknown):
        voxel_size = (8.0, 8.0, 8.0)

    with pytest.warns(UnlikeVoxels, match="scan does not say how large its voxels are.*--voxel-size"):
        segmenter.affinities(Unknown())
    with pytest.warns(UnlikeVoxels, match="8 x 8 x 8 nm: cells will look unlike"):
        segmenter.affinities(Cubes())


def test_an_unknown_volume_or_segmenter_is_refused(capsys, tmp_path):
    out = tmp_path / "out.h5"
    run(recipe(steps=1), tmp_path / "run", 1)
    own = ("--checkpoint", tmp_path / "run")
    failing(
        command(capsys, "segment", "em_sinthetic", *own, "--out", out),
        "unknown volume",
        "em_synthetic",
        status=2,
    )
    failing(
        command(capsys, "segment", "em_synthetic", *own, "--out", tmp_path / "out.png"),
        "end in .h5",
        status=2,
    )
    failing(
        command(capsys, "segment", "em_synthetic", *own, "--method", "mean", "--out", out),
        "unknown agglomeration 'mean'",
        status=2,
    )
    failing(
        command(capsys, "segment", "em_synthetic", *own, "--threshold", "2", "--out", out),
        "from 0 to 1, got 2",
        status=2,
    )
    failing(
        command(capsys, "segment", "em_synthetic", "--checkpoint", "vq_emoji64", "--out", out),
        "is a tokenizer, a segmenter is needed",
        status=2,
    )
    scored = ("evaluate", tmp_path / "run", "--task", "segmentation", "--reference", out)
    failing(command(capsys, *scored), "unknown volume", "em_synthetic", status=2)
    write_volume(out, torch.zeros(4, 20, 20, dtype=torch.uint8))
    failing(command(capsys, *scored), "give em_synthetic, or a file NAME_inputs.h5", status=2)
