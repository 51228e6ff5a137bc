"""`arzoo evaluate`: what comes out of samples and of checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import command, failing, files_of, picture
from evaluating import FAST, TINY, evaluate, pixels
from scripted import ROOT
from tiny_net import TinyNet

from arzoo.base.files import seal
from arzoo.data import load
from arzoo.metrics import record
from arzoo.metrics.protocol import Protocol
from arzoo.models.vision.features import feature_net

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
    counted = command(capsys, "evaluate", "stats.npz", "--reference", "stats.npz", *TINY, "--num", "3")
    failing(counted, "--num", status=2)


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
    (models / "gen" / "metrics.json").write_text('{"validation_loss": 2.5}')  # as an older version wrote it
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
        beside = {name: document[name] for name in ("protocol", "measured")}
        assert stored[f"{name}@{key}"] == {**figure, **beside}
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
    errors = {name: figure["error"] for name, figure in document["figures"].items()}
    assert [name for name, error in errors.items() if error is None] == ["codes_used"]
    assert "resampling" in document["figures"]["codes_used"]["no_error"]
    assert all("no_error" not in document["figures"][name] for name in errors if name != "codes_used")
    shown = command(capsys, "evaluate", "tok", "--reference", "ten", *TINY, "--metrics", "codebook").out
    assert "without error: codes_used (a count over these pictures" in shown
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
    monkeypatch.setattr("arzoo.metrics.measurement.evaluate", None)
    failing(command(capsys, "evaluate", "gen", "--reference", "ten", *FAST), "metrics.json", "not valid JSON")


def test_shipped_checkpoints_are_left_as_they_are(capsys, models, monkeypatch):
    monkeypatch.setattr("arzoo.metrics.record.BUNDLED", models)
    before = files_of(models / "tok")
    result = command(capsys, "evaluate", "tok", "--reference", "ten", *FAST, "--json")
    assert result.json["written"] == []
    assert "left as it is; --out FOLDER" in result.err
    assert files_of(models / "tok") == before


def test_shipped_checkpoints_carry_what_the_page_of_results_says():
    results = json.loads((ROOT / "docs" / "results.json").read_text())
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


def trained_on(folder: Path, data: str) -> None:
    """Let a tokenizer say that it was trained on a folder, as training writes it."""
    path = folder / "model_index.json"
    stored = json.loads(path.read_text()) | {"data": Path(data).name}
    stored["training"] = {"recipe": {"data": data}}
    path.write_text(json.dumps(stored | {"seal": seal(stored)}))


def test_a_tokenizer_of_a_folder_is_measured_on_what_it_was_not_trained_on(capsys, models):
    (models / "deep" / "data").mkdir(parents=True)
    for i in range(40):
        picture(models / "deep" / "data" / f"{i}.png", (16, 16), seed=i)
    trained_on(models / "tok", "deep/data")
    held_out = load("deep/data", 16).split("validation")
    for reference in ([], ["--reference", str(models / "deep" / "data")]):
        protocol = evaluate(capsys, "tok", *reference, *FAST)["protocol"]
        assert (protocol["reference"], protocol["n_reference"]) == ("data validation", len(held_out))
    whole = evaluate(capsys, "tok", "--split", "all", *FAST)["protocol"]
    assert (whole["reference"], whole["n_reference"]) == ("data", 40)
    other = evaluate(capsys, "tok", "--reference", "reference", *FAST)["protocol"]
    assert (other["reference"], other["n_reference"]) == ("reference", 12), "another folder is taken whole"
    for path in sorted((models / "deep" / "data").glob("*.png"))[5:]:
        path.unlink()
    failing(
        command(capsys, "evaluate", "tok", *FAST), "the validation part of deep/data has 1", "--split all"
    )
    shutil.rmtree(models / "deep")
    failing(command(capsys, "evaluate", "tok", *FAST), "trained on 'deep/data', which is not here")
