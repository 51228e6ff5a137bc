"""Stored figures: of which weights they are, how those drew, and whether anybody changed them since."""

from __future__ import annotations

import json
import shutil
from datetime import date

import pytest
import torch
from command import command, failing, tiny_tokenizer
from evaluating import FAST, evaluate

import arzoo
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.card import model_card
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.index import read_metrics, sealed_metrics
from arzoo.checkpoints.names import BUNDLED, bundled
from arzoo.checkpoints.provenance import MEASURED, stale, weights_in
from arzoo.metrics.protocol import Protocol

OPTIONS = ("--reference", "ten", *FAST)


def stored(folder):
    """Content of a table of figures, and the name of its one figure with a protocol."""
    content = json.loads((folder / "metrics.json").read_text())
    (name,) = (key for key in content if "@" in key)
    return content, name


def test_a_figure_says_what_it_was_measured_of(capsys, models):
    document = evaluate(capsys, "gen", *OPTIONS, "--num", "4", "--seed", "3", "--out", "made")
    content, name = stored(models / "gen")
    measured, checkpoint = content[name][MEASURED], open_checkpoint("gen")
    assert measured == document[MEASURED]
    tokenizer = open_checkpoint("tok").parts["tokenizer"]["weights"]
    assert measured["weights"] == {
        "backbone": checkpoint.parts["backbone"]["weights"],
        "head": checkpoint.parts["head"]["weights"],
        "tokenizer": tokenizer,
    }
    sampling = measured["sampling"]
    assert sampling["plan"] == {"name": "next_neighbor", "options": {}}
    assert sampling["control"] == checkpoint.index["controls"]
    assert (sampling["seed"], sampling["seeds"], sampling["n"]) == (3, "sample_seed(3, i)", 4)
    assert sampling["labels"] == "4 spread evenly over 3"
    versions = {"arzoo": arzoo.__version__, "commit": None, "torch": torch.__version__.partition("+")[0]}
    assert measured["versions"] | {"torch": measured["versions"]["torch"].partition("+")[0]} == versions
    assert abs((date.today() - date.fromisoformat(measured["date"])).days) <= 1
    card = (models / "gen" / "README.md").read_text()
    assert f"{measured['date']}, backbone {measured['weights']['backbone'][:12]}" in card
    pictures = evaluate(capsys, "samples", *OPTIONS)[MEASURED]
    assert pictures["sampling"] == {"n": 9, "seeds": "not recorded", "labels": "not recorded"}
    assert "weights" not in pictures


def test_figures_of_other_weights_are_noticed(capsys, models):
    evaluate(capsys, "tok", *OPTIONS)
    tiny_tokenizer(models / "new", seed=1)
    shutil.copyfile(models / "tok" / "metrics.json", models / "new" / "metrics.json")
    assert "stale" not in command(capsys, "checkpoints", "show", "tok", "--json").json
    shown = command(capsys, "checkpoints", "show", "new", "--json").json
    (reason,) = shown["stale"].values()
    old, new = (open_checkpoint(name).parts["tokenizer"]["weights"][:12] for name in ("tok", "new"))
    assert f"tokenizer {old}, not {new}" in reason
    assert "rfd" not in command(capsys, "checkpoints", "ls", "new", "--root", "new").out
    assert "rfd_tiny" in command(capsys, "checkpoints", "ls", "--root", "tok").out
    found = command(capsys, "leaderboard", "tok", "--json").json
    assert (len(found["tables"]), found["left_out"]) == (1, {})
    found = command(capsys, "leaderboard", "new", "--json").json
    assert (found["tables"], found["left_out"]) == ([], {"new": reason})
    assert f"left out: figures of new ({reason})" in command(capsys, "leaderboard", "new").out
    failing(
        command(capsys, "leaderboard", "tok", "new"), "new has no such figures", reason, "arzoo evaluate new"
    )
    evaluate(capsys, "new", *OPTIONS)
    assert len(command(capsys, "leaderboard", "tok", "new", "--json").json["tables"][0]["rows"]) == 2


def test_an_evaluation_of_weights_that_are_gone_is_of_another_subject(capsys, models):
    shutil.copytree(models / "tok", models / "runs" / "mine")
    old = evaluate(capsys, "runs/mine", *OPTIONS, "--out", "out/mine")["weights"]
    shutil.rmtree(models / "runs" / "mine")
    tiny_tokenizer(models / "runs" / "mine", seed=1)
    tables = command(capsys, "leaderboard", "--metrics", "rfd_tiny", "--json").json["tables"]
    assert [row["subject"] for found in tables for row in found["rows"]] == [f"runs/mine ({old})"]


def test_figures_of_older_versions_are_read(capsys, models):
    evaluate(capsys, "tok", *OPTIONS)
    content, name = stored(models / "tok")
    del content[name][MEASURED], content["seal"]
    (models / "tok" / "metrics.json").write_text(json.dumps(content))
    assert len(command(capsys, "leaderboard", "tok", "--json").json["tables"]) == 1
    assert "stale" not in command(capsys, "checkpoints", "show", "tok", "--json").json
    assert "figures without a seal" in command(capsys, "checkpoints", "verify", "tok").out
    assert MEASURED not in model_card("tok", open_checkpoint("tok").index, content)
    evaluate(capsys, "tok", *OPTIONS)
    assert "figures as written" in command(capsys, "checkpoints", "verify", "tok").out


def test_protocols_without_a_preset_keep_their_digits():
    shipped = {name: read_metrics(BUNDLED / name) for name in bundled()}
    stored = [
        (name, figure["protocol"])
        for found in shipped.values()
        for name, figure in found.items()
        if "@" in name
    ]
    assert len(stored) > 40
    for name, protocol in stored:
        assert Protocol.from_dict(protocol).key == name.partition("@")[2]
        assert Protocol.from_dict(protocol).to_dict() == protocol


@pytest.mark.parametrize("measured", [3, {}, {"weights": "x"}, {"weights": {"elsewhere": "x"}}, None])
def test_odd_provenance_says_nothing(measured):
    index = {"parts": {"tokenizer": {"weights": "a" * 64}}}
    assert stale({MEASURED: measured}, index) == ""
    assert stale(2.5, index) == ""
    assert weights_in(index) == {"tokenizer": "a" * 64}
    assert "not aaaaaaaaaaaa" in stale({MEASURED: {"weights": {"tokenizer": 7}}}, index)


def test_a_changed_figure_is_noticed(capsys, models):
    evaluate(capsys, "tok", *OPTIONS)
    path = models / "tok" / "metrics.json"
    content, name = stored(models / "tok")
    content[name]["value"] /= 2
    path.write_text(json.dumps(content))
    words = ("metrics.json was changed after it was written", "measure anew")
    failing(command(capsys, "checkpoints", "verify", "tok"), *words)
    failing(command(capsys, "checkpoints", "tag", "tok", "mine"), *words)
    failing(command(capsys, "evaluate", "tok", *OPTIONS), *words)
    failing(command(capsys, "leaderboard", "tok"), *words)
    shown = command(capsys, "checkpoints", "show", "tok", "--json").json
    assert (shown["metrics"], words[0] in shown["metrics_problem"]) == ({}, True)
    assert "damaged figures" in command(capsys, "checkpoints", "ls", "--root", "tok").out
    shutil.copytree(models / "tok", models / "runs" / "mine")
    found = command(capsys, "leaderboard", "runs/*", "--json").json
    assert (found["tables"], words[0] in found["left_out"]["runs/mine"]) == ([], True)
    path.unlink()
    evaluate(capsys, "tok", *OPTIONS)
    assert command(capsys, "checkpoints", "verify", "tok").status == 0


def test_a_seal_is_of_what_the_file_says(tmp_path):
    figures = {"a": {"value": 0.1 + 0.2, "error": None}, "list": (1, 2)}
    content = sealed_metrics(figures)
    assert sealed_metrics(content) == content
    (tmp_path / "metrics.json").write_text(json.dumps(content, indent=3))
    assert read_metrics(tmp_path) == {"a": figures["a"], "list": [1, 2]}
    (tmp_path / "metrics.json").write_text(json.dumps(sealed_metrics({"nan": float("nan")})))
    assert read_metrics(tmp_path).keys() == {"nan"}
    (tmp_path / "metrics.json").write_text('{"a": 1, "seal": null}')
    with pytest.raises(ArzooError, match="changed after it was written"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(ArzooError, match="no table of figures"):
        read_metrics(tmp_path)
