"""`arzoo evaluate` and `arzoo leaderboard`: what they say, write and refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command, failing, picture, ten_pictures, tiny_generator, tiny_tokenizer
from PIL import Image
from tiny_net import TinyNet, tiny_net

from arzoo import registry
from arzoo.errors import ArzooError
from arzoo.metrics import record
from arzoo.metrics.features import feature_net
from arzoo.metrics.pictures import DataPictures
from arzoo.metrics.protocol import Protocol
from arzoo.metrics.reference import pictures_of

TINY = ("--net", "tiny")
FAST = (*TINY, "--metrics", "fd", "--bootstrap", "0")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with samples, a reference, models, and an empty cache."""
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setitem(registry._entries["dataset"], "wide", lambda: ten_pictures(24))
    monkeypatch.setitem(registry._entries["feature_net"], "tiny", tiny_net)
    monkeypatch.setattr("arzoo.runtime.commit", lambda: None)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name, count, first in (("samples", 9, 0), ("reference", 12, 100)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture(tmp_path / name / f"{i:04d}.png", seed=first + i)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_generator(folder / "gen", tiny_tokenizer(folder / "tok"))
    return folder


@pytest.fixture
def models(work, trained):
    return shutil.copytree(trained, work, dirs_exist_ok=True)


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def evaluate(capsys, *arguments):
    """The document of an evaluation that must work."""
    result = command(capsys, "evaluate", *arguments, "--json")
    assert result.status == 0, result.err
    return result.json


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What comes out.


def test_a_folder_against_a_folder_in_the_embedded_network(capsys, work):
    document = evaluate(capsys, "samples", "--reference", "reference", "--bootstrap", "2")
    net, protocol = feature_net(), document["protocol"]
    assert (protocol["net"], protocol["net_sha256"]) == ("effnet_lite0", net.sha256)
    assert (protocol["n"], protocol["n_reference"], protocol["size"]) == (9, 12, "16 x 16")
    assert len(protocol["reference_sha256"]) == 64
    assert {"seeds", "labels", "format", "resize", "reference"} <= protocol.keys()
    assert document["comparable"] == Protocol.from_dict(protocol).key
    assert {f"{name}_effnet_lite0" for name in ("fd", "kid", "is", "precision_k3", "recall_k3", "density_k5",
                                                 "coverage_k5")} <= document["figures"].keys()  # fmt: skip
    assert not any("fid" in name for name in document["figures"])
    for figure in document["figures"].values():
        assert np.isfinite(figure["value"])
        assert figure["error"] is not None
    assert {"torch", "torchmetrics", "arzoo"} <= document["versions"].keys()
    assert any("n = 9 is small" in text for text in document["warnings"])
    assert document["written"] == []


def test_the_reference_may_be_a_data_set_and_its_features_are_kept(capsys, work):
    first = evaluate(capsys, "samples", "--reference", "ten", *FAST)
    assert (first["protocol"]["reference"], first["protocol"]["n_reference"]) == ("ten train", 8)
    assert list((work / "cache" / "features").glob("tiny-*.safetensors"))
    again = evaluate(capsys, "samples", "--reference", "ten", *FAST)
    assert again["figures"] == first["figures"]
    whole = evaluate(capsys, "samples", "--reference", "ten", "--split", "all", *FAST)
    assert whole["protocol"]["n_reference"] == 10
    assert whole["comparable"] != first["comparable"]


def test_pictures_of_an_npz_file_are_those_of_a_folder(capsys, work):
    np.savez("samples.npz", arr_0=pixels(work / "samples"))
    np.savez("reference.npz", arr_0=pixels(work / "reference"))
    options = [*TINY, "--bootstrap", "0"]
    folders = evaluate(capsys, "samples", "--reference", "reference", *options)
    files = evaluate(capsys, "samples.npz", "--reference", "reference.npz", *options)
    assert files["comparable"] == folders["comparable"]
    for name, figure in folders["figures"].items():
        assert files["figures"][name]["value"] == pytest.approx(figure["value"], rel=1e-9, abs=1e-12)
    some = evaluate(capsys, "samples.npz", "--reference", "reference.npz", "--num", "4", *FAST)
    assert some["protocol"]["n"] == 4


def test_saved_statistics_stand_for_the_pictures(capsys, work):
    written = evaluate(capsys, "reference", "--save-statistics", "stats.npz", *TINY)
    assert (written["figures"], written["written"]) == ({}, ["stats.npz"])
    pictures = evaluate(capsys, "samples", "--reference", "reference", *FAST)
    statistics = evaluate(capsys, "samples", "--reference", "stats.npz", *TINY, "--bootstrap", "0")
    assert statistics["comparable"] == pictures["comparable"]
    assert statistics["figures"]["fd_tiny"]["value"] == pytest.approx(pictures["figures"]["fd_tiny"]["value"])
    assert "kid" in statistics["left_out"]
    both = evaluate(capsys, "stats.npz", "--reference", "stats.npz", *FAST)
    assert both["figures"]["fd_tiny"]["value"] == pytest.approx(0, abs=1e-6)
    # Those of the ADM evaluator do not say which network made them.
    np.savez("adm.npz", mu=np.zeros(8), sigma=np.eye(8))
    failing(command(capsys, "evaluate", "samples", "--reference", "adm.npz", *FAST), "does not say which net")
    other = ("--reference", "stats.npz", "--net", "effnet_lite0")
    failing(command(capsys, "evaluate", "samples", *other), "made by tiny", "--net tiny")
    failing(
        command(capsys, "evaluate", "samples", "--reference", "stats.npz", *TINY, "--metrics", "kid"),
        "kid compares picture with picture",
    )
    failing(
        command(capsys, "evaluate", "stats.npz", "--reference", "stats.npz", *TINY, "--num", "3"), "--num"
    )


def test_samples_are_saved_in_the_layout_of_adm(capsys, work):
    found = evaluate(capsys, "ten", "--reference", "reference", "--save-samples", "all.npz", *FAST)
    assert found["written"] == ["all.npz"]
    with np.load("all.npz") as stored:
        assert (stored["arr_0"].shape, stored["arr_0"].dtype) == ((2, 16, 16, 3), np.uint8)
        assert sorted(stored["arr_1"].tolist()) == [0, 1]
    again = evaluate(capsys, "all.npz", "--reference", "reference", *FAST)
    assert again["figures"]["fd_tiny"]["value"] == pytest.approx(found["figures"]["fd_tiny"]["value"])
    failing(
        command(capsys, "evaluate", "ten", "--reference", "reference", "--save-samples", "all.npz", *FAST),
        "all.npz exists",
    )


def test_what_generate_drew_is_recognised(capsys, models):
    assert command(capsys, "generate", "gen", "--num", "4", "--seed", "3", "--out", "made").status == 0
    found = evaluate(capsys, "made", "--reference", "ten", *FAST)
    assert (found["protocol"]["n"], found["protocol"]["seeds"]) == (4, "sample_seed(3, i)")
    assert "3 classes of 1 to 2 pictures" in found["protocol"]["labels"]
    next((models / "made").glob("0002*")).unlink()
    warned = evaluate(capsys, "made", "--reference", "ten", *FAST)["warnings"]
    assert any("1 pictures that run.json" in text for text in warned)


def test_only_the_standard_network_makes_a_fid(capsys, work, monkeypatch):
    monkeypatch.setattr(TinyNet, "standard", True)
    found = evaluate(capsys, "samples", "--reference", "reference", *TINY, "--metrics", "fd", "kid")
    assert list(found["figures"]) == ["fid", "kid"]


def test_the_table_for_people(capsys, work):
    text = command(capsys, "evaluate", "samples", "--reference", "reference", *TINY).out
    for words in (
        "fd_tiny",
        "precision_k3_tiny",
        "net_sha256",
        "reference_sha256",
        "warning: n = 9 is small",
        "sfd",
    ):
        assert (words in text) == (words != "sfd")
    assert f"protocol {evaluate(capsys, 'samples', '--reference', 'reference', *FAST)['comparable']}" in text


# Checkpoints.


def test_a_generator(capsys, models):
    options = ["gen", "--reference", "ten", "--num", "6", *TINY, "--bootstrap", "2"]
    before = json.loads((models / "gen" / "metrics.json").read_text()) | {"validation_loss": 2.5}
    (models / "gen" / "metrics.json").write_text(json.dumps(before))
    document = evaluate(capsys, *options, "--batch", "4")
    assert document["kind"] == "generator"
    assert document["protocol"]["seeds"] == "sample_seed(0, i)"
    assert document["protocol"]["labels"] == "6 spread evenly over 3"
    assert document["controls"]["temperature"] == 1.0
    assert document["written"] == ["gen/metrics.json"] or "gen/metrics.json" in document["written"][0]
    stored = json.loads((models / "gen" / "metrics.json").read_text())
    assert stored["validation_loss"] == 2.5
    key = document["comparable"]
    for name, figure in document["figures"].items():
        assert stored[f"{name}@{key}"] == {**figure, "protocol": document["protocol"]}
    other = evaluate(capsys, *options, "--seed", "1", "--batch", "3", "--metrics", "fd")
    assert other["figures"]["fd_tiny"]["value"] != document["figures"]["fd_tiny"]["value"]
    fewer = evaluate(capsys, "gen", "--reference", "ten", "--num", "5", *FAST)
    stored = json.loads((models / "gen" / "metrics.json").read_text())
    assert {f"fd_tiny@{found['comparable']}" for found in (document, fewer)} <= stored.keys()
    assert f"kid_tiny@{key}" in stored
    assert not list((models / "gen").glob(".*"))
    assert command(capsys, "checkpoints", "verify", "gen").status == 0


def test_a_generator_draws_the_same_at_any_batch(capsys, models):
    few, many = (
        evaluate(
            capsys, "gen", "--reference", "ten", "--num", "6", *TINY, "--bootstrap", "0", "--batch", batch
        )
        for batch in (2, 6)
    )
    for name, figure in few["figures"].items():
        assert many["figures"][name]["value"] == pytest.approx(figure["value"], rel=1e-6, abs=1e-9), name


def test_a_tokenizer(capsys, models):
    document = evaluate(
        capsys, "tok", "--reference", "ten", "--split", "all", *TINY, "--bootstrap", "2", "--out", "e"
    )
    assert document["kind"] == "tokenizer"
    assert {"rfd_tiny", "psnr", "ssim", "codes_used", "codebook_perplexity"} == document["figures"].keys()
    assert 1 <= document["figures"]["codes_used"]["value"] <= 16
    assert "32 pixels" in document["left_out"]["perceptual"]
    assert document["protocol"]["seeds"] == "none: reconstructions"
    stored = json.loads((models / "tok" / "metrics.json").read_text())
    assert f"psnr@{document['comparable']}" in stored
    assert "psnr" in (models / "tok" / "README.md").read_text()
    assert document["comparable"] in (models / "tok" / "README.md").read_text()


def test_a_card_that_somebody_edited_stays(capsys, models):
    card = models / "tok" / "README.md"
    card.write_text("mine")
    evaluate(capsys, "tok", "--reference", "ten", *FAST)
    assert card.read_text() == "mine"


def test_figures_are_written_whole_or_not_at_all(capsys, models, monkeypatch):
    path = models / "tok" / "metrics.json"
    path.write_text('{"psnr": 1.5}')
    before = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record.os, "replace", full)
    failing(command(capsys, "evaluate", "tok", "--reference", "ten", *FAST), "No space left on device")
    assert path.read_bytes() == before
    assert not list((models / "tok").glob(".*"))


def test_a_damaged_table_of_figures_is_found_before_anything_is_measured(capsys, models, monkeypatch):
    (models / "gen" / "metrics.json").write_text("{")
    monkeypatch.setattr("arzoo.cli.measuring.evaluate", None)
    failing(command(capsys, "evaluate", "gen", "--reference", "ten", *FAST), "metrics.json", "not valid JSON")


def test_shipped_checkpoints_are_left_as_they_are(capsys, models, monkeypatch):
    monkeypatch.setattr("arzoo.metrics.record.BUNDLED", models)
    before = files_of(models / "tok")
    result = command(capsys, "evaluate", "tok", "--reference", "ten", *FAST, "--json")
    assert result.json["written"] == []
    assert "left as it is; --out FOLDER" in result.err
    assert files_of(models / "tok") == before


def test_shipped_checkpoints_carry_what_the_page_of_results_says():
    results = json.loads((Path(__file__).parents[1] / "docs" / "results.json").read_text())
    measured = {name: (found["samples"], found["protocol"]) for name, found in results["generators"].items()}
    measured |= {
        name: (found["validation"], found["protocol"]) for name, found in results["tokenizers"].items()
    }
    assert {"nar_emoji64", "raster_emoji64", "vq_emoji64"} <= measured.keys()
    for name, (figures, protocol) in measured.items():
        entries = {entry.figure: entry for entry in record.entries_of(name)}
        assert {"psnr", "rfd_effnet_lite0"} <= entries.keys() or {"fd_effnet_lite0", "kid_effnet_lite0"} <= (
            entries.keys()
        )
        for figure, entry in entries.items():
            assert entry.protocol == Protocol.from_dict(protocol)
            assert (entry.value, entry.error) == (figures[figure]["value"], figures[figure]["error"])


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


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "reference"], ["what is to be measured?"]),
        (["samples"], ["compared with?", "--reference"]),
        (["sample", "--reference", "reference"], ["unknown samples 'sample'"]),
        (["nar_emoji46", "--reference", "reference"], ["'nar_emoji46'", "'nar_emoji64'"]),
        (["samples", "--reference", "tem"], ["'tem'", "'ten'"]),
        (["samples", "--reference", "nowhere/at/all"], ["unknown data set 'nowhere/at/all'", "folder"]),
        (["empty", "--reference", "reference"], ["empty has no picture files"]),
        (["samples", "--reference", "empty"], ["empty has no picture files"]),
        (["samples/0000.png", "--reference", "reference"], ["0000.png", "is a file"]),
        (["single", "--reference", "reference"], ["1 picture is too few"]),
        (["samples", "--reference", "single"], ["1 picture is too few"]),
        (["samples", "--reference", "reference", "--metrics", "fdd"], ["'fdd'", "'fd'"]),
        (["samples", "--reference", "reference", "--metrics", "psnr"], ["reconstructions", "tokenizer"]),
        (["samples", "--reference", "reference", "--metrics", "sfd"], ["spatial features"]),
        (["samples", "--reference", "reference", "--net", "efnet_lite0"], ["'efnet_lite0'", "'effnet_lite0'"]),
        (["samples", "--reference", "reference", "--net", "tiny=nowhere.pth"], ["no file nowhere.pth"]),
        (["samples", "--reference", "reference", "--net", "inception_v3"], ["not on this machine", "FID"]),
        (["samples", "--reference", "reference", "--num", "10"], ["--num 10", "the 9 there are"]),
        (["samples", "--reference", "reference", "--num", "1"], ["--num 1 is too few"]),
        (["samples", "--reference", "reference", "--num", "-1"], ["--num", "at least 0"]),
        (["samples", "--reference", "reference", "--batch", "0"], ["--batch", "at least 1"]),
        (["samples", "--reference", "reference", "--bootstrap", "-2"], ["--bootstrap", "at least 0"]),
        (["samples", "--reference", "reference", "--split", "train"], ["--split train", "reference is none"]),
        (["samples", "--reference", "large"], ["20 x 12", "16 x 16", "Resize"]),
        (["mixed", "--reference", "reference"], ["different sizes", "16 x 16", "20 x 12"]),
        (["broken", "--reference", "reference"], ["bad.png", "not a"]),
        (["samples", "--reference", "broken"], ["bad.png", "not a"]),
        (["samples", "--reference", "reference", "--save-statistics", "x.txt"], ["must end with .npz"]),
        (["samples", "--reference", "reference", "--out", "reference"], ["reference exists", "not empty"]),
        (["samples", "--reference", "reference", "--device", "cuda:7"], ["'cuda:7'", "not on this machine"]),
        (["ten", "--reference", "reference", "--num", "40"], ["--num 40", "the 2 there are"]),
        (["tok", "--reference", "ten", "--num", "40"], ["--num 40", "the 2 there are"]),
        (["tok"], ["does not say what it was trained on", "--reference"]),
        (["tok", "--reference", "reference.npz"], ["12 x 12", "16"]),
        (["gen", "--reference", "ten", "--metrics", "ssim"], ["ssim compares reconstructions"]),
        (["gen", "--reference", "wide"], ["24 x 24", "16 x 16"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_message(capsys, models, arguments, words):
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
    failing(command(capsys, "evaluate", *arguments, *net), *words)
    result = command(capsys, "evaluate", *arguments, *net, "--json")
    assert (result.status, list(result.json)) == (1, ["error"])
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


# The leaderboard.


@pytest.fixture
def measured(capsys, work):
    """Two sets measured alike and a third against another reference."""
    shutil.copytree(work / "reference", work / "other")
    picture(work / "other" / "9999.png", seed=7)
    for name, seed in (("a", 20), ("b", 40)):
        (work / name).mkdir()
        for i in range(9):
            picture(work / name / f"{i}.png", seed=seed + i)
    options = [*TINY, "--metrics", "fd", "precision_recall", "--bootstrap", "2"]
    for name, reference in (("a", "reference"), ("b", "reference"), ("c", "other")):
        samples = "samples" if name == "c" else name
        evaluate(capsys, samples, "--reference", reference, *options, "--out", f"out/{name}")
    return work


def test_the_leaderboard_sorts_what_was_measured_alike(capsys, measured):
    tables = command(capsys, "leaderboard", "--metrics", "fd_tiny", "--json").json["tables"]
    assert [[row["subject"] for row in table["rows"]] for table in tables if len(table["rows"]) == 1] == [
        ["samples"]
    ]
    alike = next(table for table in tables if len(table["rows"]) == 2)
    values = [row["figures"]["fd_tiny"]["value"] for row in alike["rows"]]
    assert values == sorted(values)
    assert alike["protocol"]["reference"] == "reference"
    best = command(capsys, "leaderboard", "a", "b", "--metrics", "precision_k3*", "--json").json["tables"]
    values = [row["figures"]["precision_k3_tiny"]["value"] for row in best[0]["rows"]]
    assert values == sorted(values, reverse=True)
    text = command(capsys, "leaderboard").out
    assert "Figures of different tables do not compare." in text
    assert "±" in text
    assert f"protocol {alike['comparable']}: 9 pictures of 16 x 16 against reference (12) in tiny" in text


def test_the_leaderboard_refuses_unlike_protocols(capsys, measured):
    result = command(capsys, "leaderboard", "out/a", "out/c")
    failing(result, "not measured alike", "reference_sha256", "n_reference '12' and '13'", "arzoo evaluate")
    failing(command(capsys, "leaderboard", "a", "b", "samples"), "not measured alike")
    assert len(command(capsys, "leaderboard", "out/a", "out/b", "--json").json["tables"]) == 1
    # A pattern asks for nothing in common: every protocol has its own table.
    assert len(command(capsys, "leaderboard", "[abs]*", "--json").json["tables"]) == 2


def test_mistakes_of_the_leaderboard(capsys, measured):
    failing(command(capsys, "leaderboard", "nowhere"), "nowhere is no checkpoint", "arzoo evaluate nowhere")
    failing(
        command(capsys, "leaderboard", "out/a", "out/b", "--metrics", "kid*"), "out/a has no such figures"
    )
    nothing = command(capsys, "leaderboard", "zzz*")
    assert (nothing.status, "nothing was measured" in nothing.out) == (0, True)
    for content in ("", "[]", "{", '{"subject": "a", "figures": 3, "protocol": {}}', "\udcff" * 3):
        path = measured / "out" / "a" / "evaluation.json"
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert command(capsys, "leaderboard", "b").status == 0
        failing(command(capsys, "leaderboard", "out/a", "out/b"), "out/a has no such figures")


@pytest.mark.parametrize(
    "figure",
    [
        3,
        {"value": 1.0},
        {"value": "x", "protocol": {}},
        {"value": 1.0, "error": "much", "protocol": "P"},
        {"value": None, "protocol": "P"},
    ],
)
def test_figures_that_say_too_little_are_left_out(capsys, models, figure):
    evaluate(capsys, "tok", "--reference", "ten", *FAST)
    path = models / "tok" / "metrics.json"
    stored = json.loads(path.read_text())
    (key,) = (name for name in stored if name.startswith("rfd_tiny@"))
    if isinstance(figure, dict) and figure.get("protocol") == "P":
        figure = figure | {"protocol": stored[key]["protocol"]}
    path.write_text(json.dumps(stored | {"odd@12345678": figure}))
    (found,) = command(capsys, "leaderboard", "tok", "--json").json["tables"]
    assert list(found["rows"][0]["figures"]) == ["rfd_tiny"]
    assert command(capsys, "leaderboard", "tok").status == 0
