"""`arzoo evaluate`: the files of a run, and warnings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import command, failing, files_of, picture
from evaluating import FAST, evaluate, pixels
from PIL import Image

# Files of a run.


def test_the_record_of_a_run(capsys, work):
    options = ["samples", "--reference", "reference", *FAST, "--out", "made"]
    document = evaluate(capsys, *options)
    assert document["written"] == ["made/evaluation.json", "made/run.json"]
    stored = json.loads((work / "made" / "evaluation.json").read_text())
    assert stored["figures"] == document["figures"]
    assert stored["protocol"] == document["protocol"]
    run = json.loads((work / "made" / "run.json").read_text())
    assert run["command"].startswith("arzoo evaluate samples --reference reference")
    assert (run["status"], run["config"]["reference"], run["config"]["batch"]) == (
        "finished",
        "reference",
        32,
    )
    assert run["seconds"] == document["seconds"]
    assert run["files"].keys() == {"evaluation.json"}
    failing(command(capsys, "evaluate", *options), "not empty")
    assert evaluate(capsys, *options, "--overwrite")["figures"] == document["figures"]


SUBJECTS = {
    "samples": ["samples", "--reference", "reference"],
    "data": ["samples", "--reference", "ten"],
    "statistics": ["reference", "--save-statistics", "stats.npz"],
    "generator": ["gen", "--reference", "ten", "--num", "4"],
    "tokenizer": ["tok", "--reference", "ten"],
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_dry_run_writes_nothing_and_names_the_files_of_the_real_one(capsys, models, subject):
    options = [*SUBJECTS[subject], *FAST, "--out", "made"]
    before = files_of(models)
    plan = evaluate(capsys, *options, "--dry-run")
    assert files_of(models) == before
    assert plan["memory"]["total"] == sum(v for k, v in plan["memory"].items() if k != "total") > 0
    assert plan["parameters"] > 0
    assert plan["seconds"] >= 0
    assert plan["config"]["metrics"] == ["fd"]
    assert "nothing was written" in command(capsys, "evaluate", *options, "--dry-run").out
    real = evaluate(capsys, *options)
    assert real["written"] == plan["files"]
    after = files_of(models)
    changed = {name for name in after if after[name] != before.get(name) and not name.startswith("cache/")}
    assert changed == {str(Path(name).resolve().relative_to(models.resolve())) for name in plan["files"]}


# Sizes.


def test_how_pictures_were_resized_is_said(capsys, work):
    net = "; then both for tiny: "
    document = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    assert document["resized"].startswith("samples as they are, reference as they are" + net)
    assert document["resized"].endswith(document["protocol"]["resize"])
    picture(work / "reference" / "wide.png", (40, 20), 50)
    changed = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    how = "samples as they are, reference 1 of 13 to 16 x 16 by their short side, the middle taken"
    assert changed["resized"].startswith(how + net)
    assert f"resized: {how}" in command(capsys, "evaluate", "samples", "--reference", "reference", *FAST).out


def test_reconstructions_are_of_the_crops_of_a_folder(capsys, models):
    picture(models / "reference" / "wide.png", (40, 20), 50)
    document = evaluate(capsys, "tok", "--reference", "reference", *FAST)
    how = "1 of 13 to 16 x 16 by their short side, the middle taken"
    assert document["resized"].startswith(f"samples {how}, reference {how}; then both for tiny: ")


def test_statistics_do_not_say_how_their_pictures_were_resized(capsys, work):
    evaluate(capsys, "reference", "--save-statistics", "stats.npz", *FAST)
    document = evaluate(capsys, "samples", "--reference", "stats.npz", *FAST)
    assert document["resized"].startswith("samples as they are, reference unknown; then both for tiny")
    document = evaluate(capsys, "stats.npz", "--reference", "reference", *FAST)
    assert document["resized"].startswith("samples unknown, reference as they are; then both for tiny")


# Warnings.


def test_warnings(capsys, work):
    for i in range(3):
        shutil.copy(work / "samples" / "0000.png", work / "samples" / f"copy{i}.png")
    shutil.copy(work / "reference" / "0001.png", work / "samples" / "leak.png")
    Image.open(work / "samples" / "0001.png").save(work / "samples" / "lossy.jpg")
    found = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    for words in (
        "3 of 14 pictures are exact copies of others",
        "1 of 14 pictures are exact copies of reference",
        "1 of 14 pictures are JPEG",
        "n = 14 is small",
    ):
        assert any(words in text for text in found["warnings"]), words
    assert found["protocol"]["format"] == "uint8, 1 of 14 JPEG"


def test_unbalanced_classes(capsys, work):
    for name, count in (("cat", 5), ("dog", 2)):
        (work / "sorted" / name).mkdir(parents=True)
        for i in range(count):
            picture(work / "sorted" / name / f"{i}.png", seed=len(name) * i + count)
    found = evaluate(capsys, "sorted", "--reference", "reference", *FAST)
    assert any("not balanced: 5 pictures of 'cat', 2 of 'dog'" in text for text in found["warnings"])
    np.savez("x.npz", arr_0=pixels(work / "samples"), arr_1=np.array([0] * 8 + [1]))
    found = evaluate(capsys, "x.npz", "--reference", "reference", *FAST)
    assert any("not balanced: 8 pictures of '0'" in text for text in found["warnings"])
    even = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    assert not any("balanced" in text for text in even["warnings"])


def test_lossy_webp_and_lossy_references_are_named(capsys, work):
    frames = [Image.open(work / "samples" / f"{i:04d}.png") for i in range(2)]
    for name, lossless in (("lossy", False), ("whole", True)):
        frames[0].save(work / "samples" / f"{name}.webp", lossless=lossless)
        more = {"save_all": True, "append_images": frames[1:]}
        frames[0].save(work / "samples" / f"moving_{name}.webp", lossless=lossless, **more)
    Image.open(work / "reference" / "0001.png").save(work / "reference" / "lossy.jpg")
    found = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    warned = "\n".join(found["warnings"])
    assert "2 of 13 pictures are lossy WebP, which moves distances" in warned
    assert "1 of 13 reference pictures are JPEG, which moves distances" in warned
    assert found["protocol"]["format"] == "uint8, 2 of 13 lossy WebP"
    exchanged = evaluate(capsys, "reference", "--reference", "samples", *FAST)
    assert any("2 of 13 reference pictures are lossy WebP" in text for text in exchanged["warnings"])
