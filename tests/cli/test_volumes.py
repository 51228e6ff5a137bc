"""`arzoo data show` of volumes: figures, the picture of slices, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from command import command, failing
from PIL import Image

from arzoo.data import volume_sets
from arzoo.data.em import em_synthetic
from arzoo.data.volume_files import write_volume
from arzoo.viz.volumes import in_color

VOLUME = em_synthetic((6, 24, 32), 1)
FACTS = {"sides": [6, 24, 32], "voxel_size": [35.0, 8.0, 8.0]}
OBJECTS = len(VOLUME.labels.unique())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys, *arguments):
    result = command(capsys, "data", "show", *arguments, "--json")
    assert result.status == 0, result.err
    return result.json


def test_a_synthetic_volume(capsys, folder, monkeypatch):
    monkeypatch.setattr(volume_sets, "em_synthetic", lambda: VOLUME)
    facts = shown(capsys, "em_synthetic", "--out", "slices.png")
    assert facts == {
        "name": VOLUME.name,
        **FACTS,
        "objects": OBJECTS,
        "without_object": 0.0,
        "sheet": "slices.png",
    }
    pixels = np.asarray(Image.open("slices.png").convert("RGB"))
    grey = VOLUME.voxels[1][..., None].expand(-1, -1, 3)
    cells = VOLUME.labels[1]
    inside = torch.ones(24, 32)
    inside[1:] += cells[1:] == cells[:-1]
    inside[:, 1:] += cells[:, 1:] == cells[:, :-1]
    inside[0] += 1
    inside[:, 0] += 1
    for column, expected in enumerate((grey, in_color(grey, cells))):
        assert holds(pixels, expected.numpy()), column
    boundaries = (127.5 * (inside - 1)).round().to(torch.uint8)[..., None].expand(-1, -1, 3)
    assert holds(pixels, boundaries.numpy())
    assert "em_synthetic" in command(capsys, "data", "ls").out
    text = command(capsys, "data", "show", "em_synthetic").out
    assert all(
        words in text for words in ("6 x 24 x 32", "35 x 8 x 8 nm", f"{OBJECTS}", "0.0% of the voxels")
    )


def holds(pixels, part):
    """Whether a picture, three times as large, is somewhere in another."""
    part = part.repeat(3, 0).repeat(3, 1)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, part.shape)[:, :, 0]
    return bool((windows == part).all((2, 3, 4)).any())


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii.gz", ".zarr"])
def test_a_file_with_its_labels_beside_it(capsys, folder, suffix):
    labels = VOLUME.labels.clone()
    labels[:, :12] = 0
    labels[:, 12:] += 2**40
    write_volume(f"one_inputs{suffix}", VOLUME.voxels, VOLUME.voxel_size)
    facts = shown(capsys, f"one_inputs{suffix}")
    assert (facts["sides"], facts["voxel_size"], facts["objects"]) == (*FACTS.values(), None)
    assert "there are no labels" in command(capsys, "data", "show", f"one_inputs{suffix}").out
    write_volume(f"one_labels{suffix}", labels)
    facts = shown(capsys, f"one_inputs{suffix}", "--out", "slices.png")
    assert (facts["objects"], facts["without_object"]) == (len(labels.unique()) - 1, 0.5)
    wide = Image.open("slices.png").width
    assert shown(capsys, f"one_labels{suffix}", "--out", "slices.png", "--overwrite")["voxel_size"] is None
    assert Image.open("slices.png").width < wide, "without labels there is one column"


def test_datasets_of_one_file_and_the_middle_of_large_slices(capsys, folder):
    with h5py.File("a.h5", "w") as file:
        file["volumes/raw"] = np.zeros((1, 600, 700), np.uint8)
        file["volumes/ids"] = np.full((1, 600, 700), 7, np.uint64)
        file["small"] = np.ones((1, 2, 2), np.uint64)
    failing(command(capsys, "data", "show", "a.h5"), "several volumes", "dataset")
    arguments = ("a.h5", "--dataset", "volumes/raw", "--labels", "volumes/ids")
    facts = shown(capsys, *arguments, "--out", "slices.png")
    assert (facts["name"], facts["objects"]) == ("a.h5/volumes/raw", 1)
    with Image.open("slices.png") as sheet:
        assert (sheet.width, sheet.height) == (3 * 514 + 2, 512 + 12 + 4)
    planned = shown(capsys, *arguments, "--out", "other.png", "--dry-run")
    assert (planned["files"], planned["sheet"]) == (["other.png"], "1544 x 528 pixels")
    assert not (folder / "other.png").exists()
    failing(command(capsys, "data", "show", *arguments, "--out", "slices.png"), "slices.png", "--overwrite")
    failing(
        command(capsys, "data", "show", *arguments[:3], "--labels", "small"),
        "1 x 2 x 2 voxels",
        "another volume",
    )


def test_what_is_refused(capsys, folder):
    failing(command(capsys, "data", "show", "none.h5"), "unknown volume 'none.h5'", "em_synthetic", status=2)
    failing(
        command(capsys, "data", "show", "em_synthetic", "--num", 3, "--size", 8),
        "--num, --size: of pictures, not of volumes",
        status=2,
    )
    failing(command(capsys, "data", "show", "em_synthetic", "--dataset", "x"), "is no file", status=2)
    failing(
        command(capsys, "data", "show", "emoji64", "--labels", "x"),
        "of volumes, and emoji64 is none",
        status=2,
    )
    write_volume("a_inputs.h5", VOLUME.voxels)
    write_volume("a_labels.h5", torch.zeros_like(VOLUME.labels))
    facts = shown(capsys, "a_inputs.h5", "--out", "a.png")
    assert (facts["objects"], facts["without_object"]) == (0, 1.0)
