"""`--dry-run`: the same plan as the real run, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import command, failing, files_of, picture, ten_pictures, tiny_generator, tiny_tokenizer

from arzoo.base import console, estimate, lock, registry


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with models and pictures, and an empty cache."""
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    picture(tmp_path / "photo.png")
    return tmp_path


COMMANDS = {
    "generate": ["generate", "gen", "--num", "5", "--batch", "2", "--seed", "3", "--out", "made"],
    "inpaint": ["generate", "gen", "--num", "2", "--init", "photo.png", "--keep", "top", "--out", "made"],
    "tokenize": ["tokenize", "ten", "--tokenizer", "tok", "--variants", "1", "--batch", "3", "--out", "made"],
    "reconstruct": ["reconstruct", "photo.png", "--tokenizer", "tok", "--out", "made"],
    "convert": ["convert", "tok", "made", "--bits", "8"],
}


def planned(capsys, work, arguments):
    """The document of a dry run, which says in words as well what would be written, and writes nothing."""
    before = files_of(work)
    result = command(capsys, *arguments, "--dry-run", "--json")
    assert result.status == 0, result.err
    text = command(capsys, *arguments, "--dry-run").out
    assert f"would be written to {result.json['folder']}" in text
    assert "nothing was written" in text
    assert files_of(work) == before
    return result.json


@pytest.mark.parametrize("verb", COMMANDS)
def test_nothing_is_written_and_the_files_are_those_of_the_real_run(capsys, work, verb):
    plan = planned(capsys, work, COMMANDS[verb])
    assert not (work / "made").exists()
    assert plan["memory"]["total"] == sum(v for k, v in plan["memory"].items() if k != "total") > 0
    assert plan["parameters"] > 0
    assert plan["folder"] == "made"
    assert command(capsys, *COMMANDS[verb]).status == 0
    made = {name for name in files_of(work / "made") if Path(name).name != lock.FILE}
    assert made == set(plan["files"])
    if verb == "convert":
        weights = sum(len(b) for name, b in files_of(work / "made").items() if name.endswith(".safetensors"))
        assert plan["bytes"] == pytest.approx(weights, rel=0.1)
    else:
        assert plan["seconds"] > 0


def test_the_estimate_counts_every_call(capsys, work):
    plan = command(capsys, *COMMANDS["generate"], "--dry-run", "--json").json
    assert plan["passes"] == 3 * 7  # 5 pictures by two, a 4 x 4 grid in 7 diagonals
    assert plan["memory"]["weights"] >= 4 * plan["parameters"]
    assert plan["config"]["seed"] == 3


def test_mistakes_are_found_before_anything_is_done(capsys, work):
    (work / "made").mkdir()
    (work / "made" / "mine.txt").touch()
    for options in COMMANDS.values():
        failing(command(capsys, *options, "--dry-run"), "not empty")
    failing(
        command(capsys, "generate", "gen", "--class", "9", "--dry-run", "--out", "x"),
        "out of range",
        status=2,
    )
    failing(command(capsys, "convert", "tok", "x", "--dry-run"), "--bits 8")


KEEPING = {
    "tag": ["checkpoints", "tag", "gen", "mine.best"],
    "folder": ["checkpoints", "export", "gen", "made"],
    "archive": ["checkpoints", "export", "gen", "made.tar"],
    "tokenizer": ["checkpoints", "export", "tok", "made"],
    "sheet": ["data", "show", "ten", "--out", "new/sheet.png", "--num", "5"],
}


@pytest.mark.parametrize("what", KEEPING)
def test_sizes_are_those_of_the_files_that_are_written(capsys, work, what):
    before = files_of(work)
    plan = planned(capsys, work, KEEPING[what])
    assert command(capsys, *KEEPING[what]).status == 0
    new = {name: len(content) for name, content in files_of(work).items() if name not in before}
    root = (work / plan["folder"]).relative_to(work)
    assert {str(root / name): size for name, size in plan["sizes"].items()} == new
    assert (plan["files"], plan["bytes"]) == (list(plan["sizes"]), sum(new.values()))
    for options in (["--dry-run"], []):  # the real one refuses what is there now, and so does the dry one
        failing(command(capsys, *KEEPING[what], *options), "overwrit")
    assert command(capsys, *KEEPING[what], "--overwrite", "--dry-run").status == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["tag", "gen", "a b"], "no name of a checkpoint"),
        (["tag", "gen", "nar_emoji64"], "shipped checkpoint"),
        (["tag", "none", "mine"], "unknown checkpoint 'none'"),
        (["export", "gen", "hf-hub:nonsense"], "no model of the hub"),
        (["export", "broken", "made"], "damaged"),
        (["rm", "nar_emoji64", "--yes"], "is shipped"),
        (["rm", "tok", "--root", "."], "the tokenizer of"),
    ],
)
def test_keeping_and_removing_refuse_what_the_real_command_refuses(capsys, work, options, words):
    tiny_tokenizer(work / "broken", seed=1)
    (work / "broken" / "tokenizer" / "model.safetensors").write_bytes(b"")
    before = files_of(work)
    said = command(capsys, "checkpoints", *options, "--dry-run")
    typed = ("no name", "unknown ", "no model of the hub")
    failing(said, words, status=2 if words.startswith(typed) else 1)
    assert said.err == command(capsys, "checkpoints", *options).err
    assert files_of(work) == before


def test_an_upload_is_planned_without_the_hub(capsys, work, monkeypatch):
    monkeypatch.setattr(
        "arzoo.checkpoints.hub.push_folder", lambda *_, **__: pytest.fail("the hub was asked")
    )
    plan = command(capsys, "checkpoints", "export", "gen", "hf-hub:me/mine@dev", "--dry-run", "--json").json
    assert plan["folder"] == "hf-hub:me/mine@dev"
    assert {"model_index.json", "tokenizer/model_index.json", "README.md"} <= set(plan["files"])
    assert "not contacted" in plan["not_checked"]


def test_a_removal_is_planned(capsys, work):
    assert command(capsys, "checkpoints", "tag", "gen", "mine").status == 0
    before = files_of(work)
    options = ["checkpoints", "rm", "mine", "gen", "--root", ".", "--dry-run"]
    plan = command(capsys, *options, "--json").json
    there = {
        name: sum(len(b) for f, b in before.items() if f.startswith(f"{name}/"))
        for name in ("home/mine", "gen")
    }
    assert plan["sizes"] == {str(work / "home/mine"): there["home/mine"], "gen": there["gen"]}
    text = command(capsys, *options).out
    assert "2 folders would be removed" in text
    assert text.endswith("nothing was removed\n")
    assert files_of(work) == before


def test_measuring_stops_and_extrapolates(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(ticks))
    done = []
    # One second a look: the start, one look behind each piece, one at the end.
    assert estimate.expected_seconds((done.append(i) for i in range(100)), 100) == pytest.approx(5 / 4 * 100)
    assert len(done) == 4
    assert estimate.expected_seconds((done.append(i) for i in range(2)), 2) == 2


def test_tensors_are_counted_once():
    base = torch.zeros(10)
    layer = torch.nn.Linear(3, 2)
    assert estimate.tensor_bytes({"a": base, "b": [base[:5], base.expand(7, 10)]}, layer) == 40 + 32


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (2048, "2.0 kB"), (5.5e6, "5.5 MB"), (3 * 10**9, "3.0 GB"), (2**42, "4.4 TB")],
)
def test_bytes_for_people(number, text):
    assert console.human_bytes(number) == text


def test_columns_are_aligned_for_wide_letters():
    lines = console.table([("猫", 1), ("cat", 2)], ("class", "n")).splitlines()
    assert lines == ["class  n", "-----  -", "猫     1", "cat    2"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.31, "0.3 s"), (42, "42 s"), (600, "10 min"), (86400, "24.0 h")]
)
def test_durations_for_people(seconds, text):
    assert console.human_seconds(seconds) == text
