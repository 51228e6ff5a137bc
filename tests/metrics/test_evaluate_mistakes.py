"""`arzoo evaluate`: what it refuses, and its self-check."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command, failing, files_of, picture, ten_pictures
from evaluating import FAST, TINY, evaluate, pixels

from arzoo.base.errors import ArzooError
from arzoo.data.pictures import DataPictures
from arzoo.metrics.reference import pictures_of

# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["--reference", "reference"], ["no samples are given"], 2),
        (["samples"], ["compared with?", "--reference"], 2),
        (["sample", "--reference", "reference"], ["unknown samples 'sample'"], 2),
        (["nar_emoji46", "--reference", "reference"], ["'nar_emoji46'", "'nar_emoji64'"], 2),
        (["samples", "--reference", "tem"], ["'tem'", "'ten'"], 2),
        (["samples", "--reference", "nowhere/at/all"], ["unknown data set 'nowhere/at/all'", "folder"], 2),
        (["empty", "--reference", "reference"], ["empty has no picture files"], 1),
        (["samples", "--reference", "empty"], ["empty has no picture files"], 1),
        (["samples/0000.png", "--reference", "reference"], ["0000.png", "no set of pictures"], 1),
        (["single", "--reference", "reference"], ["single has 1 picture, too few"], 1),
        (["samples", "--reference", "single"], ["single has 1 picture, too few"], 1),
        (["samples", "--reference", "reference", "--metrics", "fdd"], ["'fdd'", "'fd'"], 2),
        (["samples", "--reference", "reference", "--metrics", "psnr"], ["reconstructions", "tokenizer"], 1),
        (["samples", "--reference", "reference", "--metrics", "sfd"], ["spatial features"], 1),
        (["samples", "--reference", "reference", "--net", "efnet_lite0"], ["'efnet_lite0'", "'effnet_lite0'"], 2),
        (["samples", "--reference", "reference", "--net", "tiny=nowhere.pth"], ["no file nowhere.pth"], 1),
        (["samples", "--reference", "reference", "--net", "inception_v3"], ["not on this machine", "FID"], 1),
        (["samples", "--reference", "reference", "--num", "10"], ["--num 10", "the 9 there are"], 1),
        (["samples", "--reference", "reference", "--num", "1"], ["--num 1 is too few"], 2),
        (["samples", "--reference", "reference", "--num", "-1"], ["--num", "at least 0"], 2),
        (["samples", "--reference", "reference", "--batch", "0"], ["--batch", "at least 1"], 2),
        (["samples", "--reference", "reference", "--bootstrap", "-2"], ["--bootstrap", "at least 0"], 2),
        (["samples", "--reference", "reference", "--split", "train"], ["--split train", "reference is none"], 2),
        (["samples", "--reference", "large"], ["20 x 12", "16 x 16", "Resize"], 1),
        (["mixed", "--reference", "reference"], ["different sizes", "16 x 16", "20 x 12"], 1),
        (["broken", "--reference", "reference"], ["bad.png", "not a"], 1),
        (["samples", "--reference", "broken"], ["bad.png", "not a"], 1),
        (["samples", "--reference", "reference", "--save-statistics", "x.txt"], ["must end with .npz"], 1),
        (["samples", "--reference", "reference", "--out", "reference"], ["reference exists", "not empty"], 1),
        (["samples", "--reference", "reference", "--device", "cuda:7"], ["'cuda:7'", "not on this machine"], 1),
        (["ten", "--reference", "reference", "--num", "40"], ["--num 40", "the 2 there are"], 1),
        (["tok", "--reference", "ten", "--num", "40"], ["--num 40", "the 2 there are"], 1),
        (["tok"], ["does not say what it was trained on", "--reference"], 2),
        (["tok", "--reference", "reference.npz"], ["12 x 12", "16"], 1),
        (["gen", "--reference", "ten", "--metrics", "ssim"], ["ssim compares reconstructions"], 1),
        (["gen", "--reference", "wide"], ["24 x 24", "16 x 16"], 1),
    ],
)  # fmt: skip
def test_mistakes_are_one_message(capsys, models, arguments, words, status):
    (models / "empty").mkdir()
    for name, sizes in (("single", [(16, 16)]), ("mixed", [(16, 16), (12, 20)])):
        (models / name).mkdir()
        for i, size in enumerate(sizes):
            picture(models / name / f"{i}.png", size)
    (models / "large").mkdir()
    for i in range(3):
        picture(models / "large" / f"{i}.png", (12, 20), i)
    shutil.copytree(models / "samples", models / "broken")
    (models / "broken" / "bad.png").write_bytes((models / "broken" / "0000.png").read_bytes()[:200])
    np.savez("large.npz", arr_0=np.zeros((3, 20, 12, 3), np.uint8))
    np.savez("reference.npz", arr_0=np.zeros((3, 12, 12, 3), np.uint8))
    arguments = [f"{name}.npz" if name == "large" else name for name in arguments]
    before = files_of(models)
    net = () if "--net" in arguments else TINY
    failing(command(capsys, "evaluate", *arguments, *net), *words, status=status)
    result = command(capsys, "evaluate", *arguments, *net, "--json")
    assert (result.status, list(result.json)) == (status, ["error"])
    after = files_of(models)
    assert {name for name in after if not name.startswith("cache/")} == before.keys()


WRONG = {
    "keys": ({"images": np.zeros((4, 16, 16, 3), np.uint8)}, ["neither pictures", "images"]),
    "nothing": ({}, ["neither pictures"]),
    "floats": ({"arr_0": np.zeros((4, 16, 16, 3), np.float32)}, ["float32", "must be uint8"]),
    "channels first": (
        {"arr_0": np.zeros((4, 3, 16, 16), np.uint8)},
        ["(4, 3, 16, 16)", "(n, height, width, 3)"],
    ),
    "no pictures": ({"arr_0": np.zeros((0, 16, 16, 3), np.uint8)}, ["(0, 16, 16, 3)"]),
    "objects": ({"arr_0": np.array([{}, {}], dtype=object)}, ["Python objects"]),
    "labels": (
        {"arr_0": np.zeros((4, 16, 16, 3), np.uint8), "arr_1": np.zeros(3, int)},
        ["4 pictures", "3 labels"],
    ),
    "labels of two": (
        {"arr_0": np.zeros((4, 16, 16, 3), np.uint8), "arr_1": np.zeros((4, 2), int)},
        ["arr_1", "(4, 2)"],
    ),
    "half of the statistics": ({"mu": np.zeros(8)}, ["no array 'sigma'"]),
    "unlike statistics": ({"mu": np.zeros(8), "sigma": np.eye(7)}, ["(7, 7)", "8 numbers"]),
    "whole numbers": ({"mu": np.zeros(8, int), "sigma": np.eye(8)}, ["must be floats"]),
    "not finite": ({"mu": np.full(8, np.nan), "sigma": np.eye(8)}, ["not finite"]),
    "not symmetric": ({"mu": np.zeros(8), "sigma": np.triu(np.ones((8, 8)))}, ["not symmetric"]),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", ["samples", "reference"])
def test_npz_files_of_another_layout(capsys, work, wrong, place):
    arrays, words = WRONG[wrong]
    np.savez("x.npz", **arrays)
    sides = ("x.npz", "reference") if place == "samples" else ("samples", "x.npz")
    result = command(capsys, "evaluate", sides[0], "--reference", sides[1], *FAST)
    failing(result, *words)


@pytest.mark.parametrize("length", [0, 10, 200, 2000])
def test_npz_files_cut_short(capsys, work, length):
    np.savez("whole.npz", arr_0=pixels(work / "samples"))
    Path("x.npz").write_bytes(Path("whole.npz").read_bytes()[:length])
    failing(command(capsys, "evaluate", "x.npz", "--reference", "reference", *FAST), "x.npz")
    failing(command(capsys, "evaluate", "samples", "--reference", "x.npz", *FAST), "x.npz")
    failing(
        command(capsys, "evaluate", "absent.npz", "--reference", "reference", *FAST), "no file absent.npz"
    )


def test_pictures_of_a_data_set_are_evenly_spread(work):
    some = pictures_of("ten", "all", num=4)
    assert isinstance(some, DataPictures)
    assert torch.equal(some.data.images, ten_pictures().images[[0, 2, 5, 7]])
    with pytest.raises(ArzooError, match="--num 11"):
        pictures_of("ten", "all", num=11)


# The self-check.


def test_the_self_check(capsys, work, monkeypatch):
    checks = evaluate(capsys, "--self-check")["checks"]
    assert checks["Frechet distance of two crosses"]["expected"] == 6.2
    assert "as expected" in command(capsys, "evaluate", "--self-check").out
    monkeypatch.setattr("arzoo.metrics.selfcheck.inception_score", lambda logits, splits=10: 4.9)
    failing(command(capsys, "evaluate", "--self-check"), "self-check failed", "gives 4.9, it must be 5")
