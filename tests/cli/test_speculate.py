"""`arzoo generate --speculate`."""

from __future__ import annotations

import pytest
from command import command, failing, pixels, tiny_generator, tiny_tokenizer

from arzoo.cli.pictures import read_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("models")
    tiny_generator(where / "gen", tiny_tokenizer(where / "tok"))
    return where


def drawing(capsys, folder, out, *options):
    return command(
        capsys, "generate", folder / "gen", "--num", 3, "--batch", 2, "--out", out, "--json", *options
    )


def test_several_steps_in_one_call_draw_the_same_pictures(capsys, folder, tmp_path):
    names = ("one", "several", "animated")
    options = (("jacobi:1",), ("jacobi:5",), ("jacobi:5", "--animate"))
    one, several, animated = (
        drawing(capsys, folder, tmp_path / name, "--speculate", *more).json
        for name, more in zip(names, options, strict=True)
    )
    pictures = [
        [path for path in document["files"] if path.endswith(".png")] for document in (one, several, animated)
    ]
    for first, *others in zip(*pictures, strict=True):
        assert all((pixels(first) == pixels(other)).all() for other in others)
    assert several["passes"] < one["passes"] == 2 * 7, "two batches of seven diagonals"
    assert several["passes"] == animated["passes"]
    assert len(animated["animations"]) == 3
    settings = read_settings(several["files"][0])
    assert settings["speculate"] == "jacobi:5"
    again = command(
        capsys,
        "generate",
        "--like",
        several["files"][2],
        folder / "gen",
        "--out",
        tmp_path / "again",
        "--json",
    )
    assert again.json["config"]["speculate"] == "jacobi:5"
    assert (pixels(again.json["files"][0]) == pixels(several["files"][2])).all()
    dry = drawing(capsys, folder, tmp_path / "dry", "--speculate", "jacobi:5", "--dry-run").json
    assert (dry["passes"], dry["not_counted"]) == (2 * 7, "passes that --speculate saves")


@pytest.mark.parametrize("method", ["sjd:4", "coupled:4", "draft:OTHER:2"])
def test_methods_that_draw_other_pictures_draw_them_alone_and_again(capsys, folder, tmp_path, method):
    method = method.replace("OTHER", str(tiny_generator(folder / "other", folder / "tok", seed=1)))
    words = "would wait for each other", "Add --batch 1"
    failing(drawing(capsys, folder, tmp_path / "no", "--speculate", method), *words, status=2)
    assert not (tmp_path / "no").exists()
    options = "--json", "--speculate", method, "--batch", 1
    all_, fewer = (
        command(capsys, "generate", folder / "gen", "--num", num, "--out", tmp_path / str(num), *options).json
        for num in (3, 1)
    )
    assert (pixels(all_["files"][0]) == pixels(fewer["files"][0])).all()
    assert 3 < all_["passes"] < 3 * 7
    assert ("draft_passes" in all_) == method.startswith("draft")
    dry = command(capsys, "generate", folder / "gen", "--out", tmp_path / "dry", "--dry-run", *options).json
    assert ("the model that drafts" in dry["not_counted"]) == method.startswith("draft")
    like = "--like", all_["files"][2], folder / "gen", "--out", tmp_path / "again", "--json"
    again = command(capsys, "generate", *like).json
    assert (pixels(again["files"][0]) == pixels(all_["files"][2])).all()


@pytest.mark.parametrize("text", ["draft:2", "draft:", "draft:gone:2", "draft:mar_emoji64:2"])
def test_models_that_cannot_draft_are_refused(capsys, folder, tmp_path, text):
    words = {"draft:gone:2": "gone", "draft:mar_emoji64:2": "must have the same codes"}
    result = drawing(capsys, folder, tmp_path / "out", "--speculate", text)
    failing(result, words.get(text, "a model and the number of steps it drafts"), status=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["jacobi", "jacobi:", "jacobi:0", "jacobi:-1", "jacobi:²", "jacobi:1.5", "jacobi:" + "9" * 5000]
)
def test_settings_that_cannot_be_read_are_refused(capsys, folder, tmp_path, text):
    failing(
        drawing(capsys, folder, tmp_path / "out", f"--speculate={text}"),
        f"speculate '{text}'", "must be a number of steps from 1 on, as in jacobi:8", status=2,
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["8", "jakobi:8", ""])
def test_unknown_methods_are_refused_with_their_names(capsys, folder, tmp_path, text):
    result = drawing(capsys, folder, tmp_path / "out", f"--speculate={text}")
    failing(result, f"speculation '{text.partition(':')[0]}'", "jacobi", status=2)
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_are_refused_before_anything_is_written(capsys, tmp_path):
    result = command(capsys, "generate", "mar_emoji64", "--speculate", "jacobi:4", "--out", tmp_path / "out")
    failing(result, "jacobi draws several steps", "backbone mar reads all tokens anew", status=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["lantern:4:0.5", "grouped:4"])
def test_methods_that_change_the_law_are_drawn_if_that_is_allowed(capsys, folder, tmp_path, text):
    refused = drawing(capsys, folder, tmp_path / "out", "--speculate", text)
    failing(refused, "another law than the model's", "--allow-inexact", "exact", status=2)
    assert not (tmp_path / "out").exists()
    options = ("--num", 3, "--batch", 1, "--out", tmp_path / "out", "--json", "--speculate", text)
    drawn = command(capsys, "generate", folder / "gen", *options, "--allow-inexact").json
    assert drawn["passes"] <= 3 * 7
    settings = read_settings(drawn["files"][0])
    assert (settings["speculate"], settings["allow_inexact"]) == (text, True)
    exact = drawing(capsys, folder, tmp_path / "exact", "--speculate", "jacobi:4", "--allow-inexact")
    assert "--allow-inexact has no effect: jacobi is exact" in exact.err
    failing(drawing(capsys, folder, tmp_path / "exact", "--allow-inexact"), "goes with --speculate", status=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lantern:4", "'' must be the number delta"),
        ("lantern:4:", "'' must be the number delta"),
        ("lantern:4:much", "'much' must be the number delta"),
        ("lantern:4:-1", "delta must be 0 or more, got -1.0"),
        ("lantern:4:nan", "delta must be 0 or more, got nan"),
        ("lantern:x:0.1", "'x' must be a number of steps"),
        ("tree:raster_emoji64:4x", "'' must be a number of candidates from 1 on, as in tree:MODEL:4x2x1"),
        ("tree:raster_emoji64:0", "'0' must be a number of candidates"),
    ],
)
def test_numbers_that_cannot_be_read_are_refused(capsys, folder, tmp_path, text, words):
    result = drawing(capsys, folder, tmp_path / "out", f"--speculate={text}", "--allow-inexact")
    failing(result, f"speculate '{text}'", words, status=2)
