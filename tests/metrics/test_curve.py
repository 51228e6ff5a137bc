"""The curve of a tokenizer over the number of tokens, by `arzoo evaluate`."""

from __future__ import annotations

import json
import sys

import pytest
from command import command, failing, tiny_tokenizer
from evaluating import TINY, evaluate
from ordered import tiny_adaptive, tiny_prefixes
from PIL import Image

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.clips import as_clips
from arzoo.data.transforms import to_model
from arzoo.metrics.bank import measure
from arzoo.metrics.evaluation import RebuiltPictures, reference_of
from arzoo.metrics.rate import Rate, usual_rates
from arzoo.metrics.reference import pictures_of
from arzoo.metrics.scores.frechet import frechet_distance
from arzoo.metrics.scores.reconstruction import psnr, reconstruct


@pytest.fixture
def tokenizers(work):
    tiny_prefixes(work / "prefixes")
    tiny_adaptive(work / "adaptive")
    return work


def test_rates_of_a_curve(tokenizers):
    def of(name):
        return usual_rates(open_checkpoint(tokenizers / name).load("tokenizer"))

    assert [rate.tokens for rate in of("prefixes")] == [1, 2, 4, 8]
    assert [rate.quality for rate in of("adaptive")] == [0.38, 0.19, 0.095, 0.048, 0.024, 0.012]
    tiny_tokenizer(tokenizers / "grid")
    assert of("grid") == []


def test_a_curve_over_prefixes(capsys, tokenizers):
    document = evaluate(capsys, "prefixes", "--reference", "reference", *TINY, "--out", "found")
    curve = document["curve"]
    assert [point["prefix"] for point in curve] == [1, 2, 4, 8]
    assert [point["figures"]["tokens"]["value"] for point in curve] == [1, 2, 4, 8]
    names = {"tokens", "rfd_tiny", "psnr", "ssim"}
    assert all(point["figures"].keys() == names for point in curve), (
        "16 pixels are too few for the perceptual one"
    )
    assert all(figure["error"] is not None for point in curve for figure in point["figures"].values())
    for name in names:
        assert curve[-1]["figures"][name] == document["figures"][name], "all tokens are the longest prefix"
    assert curve[0]["figures"]["psnr"]["value"] != curve[-1]["figures"]["psnr"]["value"]

    tokenizer = open_checkpoint(tokenizers / "prefixes").load("tokenizer")
    originals = pictures_of("reference", "all", (16, 16))
    images = originals.read(range(12))
    _, present, rebuilt = reconstruct(tokenizer, images, Rate(tokens=2))
    assert present.sum(1).tolist() == [2] * 12
    assert curve[1]["figures"]["psnr"]["value"] == pytest.approx(float(psnr(rebuilt, images).mean()))

    assert json.loads((tokenizers / "found" / "evaluation.json").read_text())["curve"] == curve
    assert Image.open(tokenizers / "found" / "curve.png").size[0] > 300
    assert "found/curve.png" in document["written"]
    record = json.loads((tokenizers / "found" / "run.json").read_text())
    assert record["files"].keys() == {"evaluation.json", "curve.png"}


def test_distances_of_a_curve_are_those_of_its_reconstructions(tokenizers):
    from tiny_net import tiny_net

    from arzoo.metrics.curve import measure_curve

    tokenizer = open_checkpoint(tokenizers / "adaptive").load("tokenizer")
    originals, net, rate = pictures_of("reference", "all", (16, 16)), tiny_net(), Rate(quality=0.1)
    (point,) = measure_curve(tokenizer, originals, net, [rate], left_out=["perceptual"])
    rebuilt = measure(RebuiltPictures(tokenizer, originals, rate=rate), net, 5)
    expected = frechet_distance(rebuilt.statistics, reference_of(originals, net, 5).measured.statistics)
    assert point.figures["rfd_tiny"].value == pytest.approx(expected, rel=1e-6)
    tokens = tokenizer.encode(as_clips(to_model(originals.read(range(12)))), quality=0.1)
    assert point.figures["tokens"].value == pytest.approx(float(tokens.known.sum(1).double().mean()))


def test_a_curve_over_qualities_at_chosen_points(capsys, tokenizers):
    options = ["adaptive", "--reference", "reference", *TINY, "--quality", "0.3", "0.02"]
    result = command(capsys, "evaluate", *options)
    assert result.status == 0, result.err
    head, _, first, second = [line.split() for line in result.out.split("\n\n")[1].splitlines()]
    assert head[:3] == ["quality", "tokens", "rfd_tiny"]
    assert (first[0], second[0]) == ("0.3", "0.02")
    assert first.count("±") == 4
    assert "--out FOLDER keeps the curve" in result.err


def test_codes_that_are_left_out_are_not_counted(capsys, tokenizers):
    document = evaluate(capsys, "adaptive", "--reference", "reference", *TINY, "--quality", "0.3")
    tokenizer = open_checkpoint(tokenizers / "adaptive").load("tokenizer")
    images = pictures_of("reference", "all", (16, 16)).read(range(12))
    values, present, _ = reconstruct(tokenizer, images)
    assert not present.all()
    assert document["figures"]["codes_used"]["value"] == len(values[present].unique())
    assert document["figures"]["tokens"]["value"] == pytest.approx(float(present.sum(1).double().mean()))


def test_without_matplotlib_the_table_still_comes(capsys, tokenizers, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("arzoo.viz.plots.can_plot", lambda: False)
    options = ["evaluate", "prefixes", "--reference", "reference", *TINY, "--tokens", "4", "--out", "found"]
    result = command(capsys, *options)
    assert result.status == 0, result.err
    assert "prefix  tokens" in result.out
    assert "pip install 'arzoo[plots]'" in result.err
    assert not (tokenizers / "found" / "curve.png").exists()
    assert json.loads((tokenizers / "found" / "evaluation.json").read_text())["curve"][0]["prefix"] == 4


def test_the_estimate_names_the_plot_and_counts_the_points(capsys, tokenizers):
    options = ["prefixes", "--reference", "reference", *TINY, "--dry-run", "--out", "found"]
    estimate = evaluate(capsys, *options)
    assert "found/curve.png" in estimate["files"]
    assert not (tokenizers / "found").exists()


def test_mistaken_points(capsys, tokenizers):
    def asking(*options):
        return command(capsys, "evaluate", *options, *TINY, "--reference", "reference")

    tiny_tokenizer(tokenizers / "grid")
    failing(asking("prefixes", "--tokens", 9), "1 to 8 tokens", "got 9", status=2)
    failing(asking("grid", "--tokens", 4), "needs all 16 tokens", status=2)
    failing(asking("adaptive", "--quality", 0.9), "nearest is 0.38", status=2)
    failing(asking("adaptive", "--quality", 0.1, "--tokens", 3), "give --tokens or --quality", status=2)
    failing(asking("samples", "--tokens", 3), "samples is none", status=2)
    assert "curve" not in evaluate(capsys, "grid", "--reference", "reference", *TINY)
