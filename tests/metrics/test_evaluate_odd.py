"""`arzoo evaluate`: inputs that are odd but plausible are scored right, remarked upon, or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command, failing, picture
from evaluating import FAST, TINY, evaluate, pixels
from PIL import Image
from tiny_net import TinyNet

from arzoo.models.vision.features import Features

NEAR = ("--reference", "reference")


def stored_as(folder, convert, suffix="png"):
    """The samples in other files, as `convert` makes a picture of (16, 16, 3) pixels."""
    target = folder / "odd"
    target.mkdir()
    for i, found in enumerate(pixels(folder / "samples")):
        convert(found).save(target / f"{i:04d}.{suffix}")


def grey(found):
    return np.asarray(Image.fromarray(found).convert("L"))


KINDS = {
    "opaque": (lambda x: Image.fromarray(np.dstack([x, np.full(x.shape[:2], 255, np.uint8)])), "png", "opacity"),
    "16 bits": (lambda x: Image.fromarray(grey(x).astype(np.uint16) * 257), "png", "16 bits per channel, 8 are"),
    "floats": (lambda x: Image.fromarray(grey(x).astype(np.float32) / 255), "tif", "32 bits per pixel"),
    "grey": (lambda x: Image.fromarray(grey(x)), "png", ""),
    "gif": (lambda x: Image.fromarray(x), "gif", "a palette of at most 256"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_other_kinds(capsys, work, kind):
    convert, suffix, words = KINDS[kind]
    stored_as(work, convert, suffix)
    found = evaluate(capsys, "odd", *NEAR, *FAST)
    remarks = [text for text in found["warnings"] if "pictures of odd" in text]
    assert len(remarks) == bool(words)
    assert all(text.startswith("9 of 9") and words in text for text in remarks)
    seen = pixels(work / "samples")
    if kind in ("16 bits", "floats", "grey"):
        seen = np.stack([np.repeat(grey(x)[..., None], 3, -1) for x in seen])
    if kind != "gif":
        np.savez("same.npz", arr_0=seen)
        same = evaluate(capsys, "same.npz", *NEAR, *FAST)
        assert found["figures"] == same["figures"]
    swapped = evaluate(capsys, "samples", "--reference", "odd", *FAST)
    assert [text for text in swapped["warnings"] if "pictures of odd" in text] == remarks


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_numbers_that_are_no_brightness_are_refused(capsys, work, value):
    def spoiled(found):
        values = grey(found).astype(np.float32) / 255
        values[0, 0] = value
        return Image.fromarray(values)

    stored_as(work, spoiled, "tif")
    failing(
        command(capsys, "evaluate", "odd", *NEAR, *FAST), "0000.tif has values from", "at least 0", "Scale"
    )


def test_what_a_folder_leaves_out_is_said(capsys, work):
    recorded = {f"{i:04d}.png": {} for i in range(7)}
    (work / "samples" / "run.json").write_text(json.dumps({"files": recorded}))
    picture(work / "samples" / "grid.png", (32, 32))
    (work / "samples" / "x.jp2").write_bytes(b"")
    found = evaluate(capsys, "samples", *NEAR, *FAST)
    assert found["protocol"]["n"] == 7
    warned = "\n".join(found["warnings"])
    assert "2 pictures of samples are left out, as its run.json does not name them" in warned
    assert "1 files of samples are left out, as .jp2 are not read" in warned
    Image.open(work / "reference" / "0001.png").save(
        work / "reference" / "moving.tif", save_all=True, append_images=[Image.new("RGB", (16, 16))]
    )
    warned = "\n".join(evaluate(capsys, "reference", "--reference", "samples", *FAST)["warnings"])
    assert "1 of 13 pictures of reference have several frames or pages: the first is read" in warned


def test_a_reference_that_is_resized_is_said(capsys, work, models):
    (work / "large").mkdir()
    for i in range(6):
        picture(work / "large" / f"{i}.png", (40, 30) if i else (16, 16), seed=i)
    words = "5 of 6 pictures of large are not 16 x 16 (1.png is 30 x 40): they were resized"
    for subject in (["samples"], ["gen", "--num", "4"], ["tok"]):
        found = evaluate(capsys, *subject, "--reference", "large", *FAST)
        assert any(words in text for text in found["warnings"]), subject
    plain = evaluate(capsys, "samples", *NEAR, *FAST)
    assert not any("resized" in text for text in plain["warnings"])


def test_floats_that_became_black_pictures_are_said(capsys, work):
    np.savez("dark.npz", arr_0=(pixels(work / "samples") / 255).round().astype(np.uint8))
    words = "is above 1 of 255"
    for options in (["dark.npz", *NEAR], ["samples", "--reference", "dark.npz"]):
        (text,) = (text for text in evaluate(capsys, *options, *FAST)["warnings"] if words in text)
        assert ("samples" in text) == (options[0] == "dark.npz")
    assert not any(words in text for text in evaluate(capsys, "samples", *NEAR, *FAST)["warnings"])


@pytest.mark.parametrize(("count", "left_out"), [(2, 2), (3, 2), (4, 1), (5, 1), (6, 0)])
def test_few_pictures_have_no_far_neighbours(capsys, work, count, left_out):
    options = ("samples", *NEAR, "--num", str(count), *TINY, "--bootstrap", "0")
    found = evaluate(capsys, *options)
    assert found["left_out"].keys() == set(["density_coverage", "precision_recall"][:left_out])
    assert all(np.isfinite(figure["value"]) for figure in found["figures"].values())
    assert found["figures"]["is_tiny"]["definition"] == f"{count // 2} splits, shuffled, 5 classes"
    assert count < 4 or found["figures"]["is_tiny"]["value"] > 1
    refused = command(capsys, "evaluate", *options, "--metrics", "density_coverage")
    if left_out:
        failing(refused, "the 5 nearest neighbors", "takes at least 6 pictures", f"{count} samples")
    else:
        assert refused.status == 0


@pytest.mark.parametrize("part", ["pooled", "logits", "spatial"])
def test_numbers_that_are_not_finite_are_found_in_every_part(capsys, work, monkeypatch, part):
    def read(self, x):
        pooled = x.flatten(2).mean(2).repeat(1, 3)[:, :8]
        found = Features(pooled, pooled[:, :5], pooled)
        return found._replace(**{part: getattr(found, part) * torch.tensor(float("nan"))})

    monkeypatch.setattr(TinyNet, "read", read)
    failing(command(capsys, "evaluate", "samples", *NEAR, *TINY, "--metrics", "fd"), "not finite numbers")


def test_a_covariance_with_eigenvalues_below_0_is_refused(capsys, work):
    sigma = np.eye(8)
    sigma[0, 0] = -1e-5
    told = {"net": "tiny", "net_sha256": "0" * 64, "resize": "quarters", "n": 9, "mu": np.zeros(8)}
    np.savez("x.npz", sigma=sigma, **told)
    assert evaluate(capsys, "samples", "--reference", "x.npz", *FAST)["figures"]
    sigma[0, 0] = -0.5
    np.savez("x.npz", sigma=sigma, **told)
    for sides in (("samples", "x.npz"), ("x.npz", "reference")):
        result = command(capsys, "evaluate", sides[0], "--reference", sides[1], *FAST)
        failing(result, "'sigma' of x.npz has the eigenvalue -0.5 beside 1", "none below 0")


def test_black_samples_of_a_collapsed_model_are_measured_however_well_they_pack(capsys, work):
    np.savez_compressed("black.npz", np.zeros((800, 64, 64, 3), np.uint8))
    assert Path("black.npz").stat().st_size < 800 * 64 * 64 * 3 / 1000
    np.savez("real.npz", np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8))
    options = ("--net", "tiny", "--num", 8, "--bootstrap", 3, "--json")
    done = command(capsys, "evaluate", "black.npz", "--reference", "real.npz", *options)
    assert done.status == 0, done.err
    assert all(math.isfinite(figure["value"]) for figure in done.json["figures"].values())
    assert any("no value of the samples is above 1" in text for text in done.json["warnings"])


def test_messages_name_what_is_too_small_or_no_set(capsys, work):
    Path("single/a").mkdir(parents=True)
    picture(Path("single/a/0.png"))
    for options in (("samples", "--reference", "single"), ("single", "--reference", "samples")):
        failing(command(capsys, "evaluate", *options, "--net", "tiny"), "single has 1 picture,", "at least 2")
    np.save("samples.npy", np.zeros((4, 8, 8, 3), np.uint8))
    result = command(capsys, "evaluate", "samples.npy", "--reference", "samples", "--net", "tiny")
    failing(result, "samples.npy is no set of pictures", ".npz")
    assert "convert" not in result.err
