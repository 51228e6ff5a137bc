"""`arzoo leaderboard`: what it sorts, refuses and leaves out."""

from __future__ import annotations

import json
import shutil

import pytest
from command import command, failing, picture
from evaluating import FAST, TINY, evaluate

from arzoo.checkpoints.index import sealed_metrics

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
    assert "Figures of different tables cannot be compared." in text
    assert "±" in text
    assert f"protocol {alike['comparable']}: 9 pictures of 16 x 16 against reference (12) in tiny" in text


def test_the_leaderboard_refuses_unlike_protocols(capsys, measured):
    result = command(capsys, "leaderboard", "out/a", "out/c")
    failing(result, "not measured alike", "reference_sha256", "n_reference '12' and '13'", "arzoo evaluate")
    failing(command(capsys, "leaderboard", "a", "b", "samples"), "not measured alike")
    assert len(command(capsys, "leaderboard", "out/a", "out/b", "--json").json["tables"]) == 1
    # A pattern asks for nothing in common: every protocol has its own table. (Shipped models match it too.)
    tables = command(capsys, "leaderboard", "[abs]*", "--json").json["tables"]
    ours = {"a", "b", "samples"}
    assert len([t for t in tables if ours & {row["subject"] for row in t["rows"]}]) == 2


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


def test_named_checkpoints_are_compared_by_name(capsys, models):
    assert command(capsys, "checkpoints", "tag", "tok", "tiny_tok.best").status == 0
    evaluate(capsys, "tiny_tok.best", "--reference", "ten", *FAST)
    (found,) = command(capsys, "leaderboard", "tiny_tok.best", "--json").json["tables"]
    assert [row["subject"] for row in found["rows"]] == ["tiny_tok.best"]
    (found,) = command(capsys, "leaderboard", "tiny_*", "--json").json["tables"]
    assert [row["subject"] for row in found["rows"]] == ["tiny_tok.best"]
    evaluate(capsys, "tok", "--reference", "ten", *FAST)
    (found,) = command(capsys, "leaderboard", "tok", "tiny_tok.best", "--json").json["tables"]
    assert len(found["rows"]) == 2


def test_a_run_has_one_name(capsys, models):
    (models / "runs" / "mine").mkdir(parents=True)
    (models / "runs" / "mine" / "recipe.yaml").write_text("task: tokenizer")
    shutil.copytree(models / "tok", models / "runs" / "mine" / "checkpoint")
    evaluate(capsys, "runs/mine", "--reference", "ten", *FAST)
    for names in ([], ["runs/mine"]):
        tables = command(capsys, "leaderboard", *names, "--metrics", "rfd_tiny", "--json").json["tables"]
        assert [row["subject"] for found in tables for row in found["rows"]] == ["runs/mine"]


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
    path.write_text(json.dumps(sealed_metrics(stored | {"odd@12345678": figure})))
    (found,) = command(capsys, "leaderboard", "tok", "--json").json["tables"]
    assert list(found["rows"][0]["figures"]) == ["rfd_tiny"]
    assert command(capsys, "leaderboard", "tok").status == 0
