"""`arzoo generate --tokens` and `arzoo tokenize --quality`."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from command import command, failing, picture, tiny_models
from ordered import tiny_adaptive, tiny_prefixes
from PIL import Image

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.data.codes import Codes
from arzoo.generation.generator import Generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokenizers with prefixes and with halted slots, a generator on each, and one on a grid."""
    where = tmp_path_factory.mktemp("models")
    tiny_prefixes(where / "prefixes")
    tiny_adaptive(where / "adaptive")
    tiny_models(where)
    for name in ("prefixes", "adaptive"):
        checkpoint = open_checkpoint(where / name)
        torch.manual_seed(0)
        model = Generator.create(
            "raster_tiny", checkpoint.load("tokenizer"), "ordered", classes=("a", "b"), tokenizer_name=name,
            tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], width=32, depth=1, heads=2,
        )  # fmt: skip
        torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
        model.save(where / f"{name}_generator")
    return where


def drawing(capsys, folder, tmp_path, name, *options, num=2):
    where = [folder / name, "--num", num, "--out", tmp_path / "out", "--overwrite", "--json"]
    return command(capsys, "generate", *where, *options)


def test_a_number_of_tokens(capsys, folder, tmp_path):
    document = drawing(capsys, folder, tmp_path, "prefixes_generator", "--tokens", 3).json
    assert document["tokens_per_picture"] == [3, 3]
    assert document["passes"] == document["head_calls_per_picture"] == 3
    assert document["config"]["tokens"] == 3
    again = [
        folder / "prefixes_generator",
        "--like",
        document["files"][0],
        "--out",
        tmp_path / "like",
        "--json",
    ]
    repeated = command(capsys, "generate", *again).json
    assert repeated["tokens_per_picture"] == [3]
    assert [(tmp_path / "like").joinpath(repeated["files"][0].rpartition("/")[2]).read_bytes()] == [
        (tmp_path / "out").joinpath(document["files"][0].rpartition("/")[2]).read_bytes()
    ]
    everything = drawing(capsys, folder, tmp_path, "prefixes_generator").json
    assert everything["tokens_per_picture"] == [8, 8]
    dry = drawing(capsys, folder, tmp_path, "prefixes_generator", "--tokens", 3, "--dry-run").json
    assert dry["passes"] == 3


def test_a_model_that_ends_a_picture_itself(capsys, folder, tmp_path):
    counts = drawing(capsys, folder, tmp_path, "adaptive_generator", num=5).json["tokens_per_picture"]
    assert len(counts) == 5
    assert all(0 <= count <= 12 for count in counts)
    fewer = drawing(capsys, folder, tmp_path, "adaptive_generator", "--tokens", 2).json["tokens_per_picture"]
    assert max(fewer) <= 2


@pytest.mark.parametrize("count", [0, 9])
def test_numbers_out_of_range(capsys, folder, tmp_path, count):
    result = drawing(capsys, folder, tmp_path, "prefixes_generator", "--tokens", count)
    failing(result, f"from 1 to 8, got {count}", status=2)


def test_models_of_a_grid_need_all_tokens(capsys, folder, tmp_path):
    result = drawing(capsys, folder, tmp_path, "gen", "--tokens", 4)
    failing(result, "need all 16 tokens of Grid", "ordered tokens", status=2)
    assert "tokens_per_picture" not in drawing(capsys, folder, tmp_path, "gen").json


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    where = tmp_path_factory.mktemp("pictures")
    for name in ("a", "b"):
        (where / name).mkdir()
        for i in range(10):
            picture(where / name / f"{i}.png", seed=i)
    return where


def test_tokens_for_a_quality(capsys, folder, pictures, tmp_path):
    options = [pictures, "--out", tmp_path / "codes", "--quality", 0.3, "--json"]
    dry = command(capsys, "tokenize", *options, "--tokenizer", folder / "prefixes", "--dry-run").json
    assert dry["encodings"] == 20
    document = command(capsys, "tokenize", *options, "--tokenizer", folder / "prefixes").json
    for split in ("train", "validation"):
        counts = Codes.load(tmp_path / "codes" / split).token_counts()
        tokens = document[split]["tokens"]
        assert (tokens["min"], tokens["max"]) == (int(counts.min()), int(counts.max()))
        assert tokens["mean"] == pytest.approx(float(counts.float().mean()), abs=0.01)
        assert document[split]["quality"] == 0.3
    record = json.loads((tmp_path / "codes" / "run.json").read_text())
    assert record["train"]["tokens"] == document["train"]["tokens"]
    said = command(capsys, "tokenize", *options[:-1], "--tokenizer", folder / "prefixes").out
    assert "of 8 tokens" in said
    assert "on average" in said


def test_adaptive_tokenizers_have_a_quality_of_their_own(capsys, folder, pictures, tmp_path):
    options = [pictures, "--out", tmp_path / "codes", "--json", "--tokenizer", folder / "adaptive"]
    document = command(capsys, "tokenize", *options).json
    assert document["train"]["quality"] is None
    assert document["train"]["tokens"]["max"] <= 12


@pytest.mark.parametrize(
    ("name", "quality", "words"),
    [
        ("adaptive", 0.5, "nearest is 0.38"),
        ("prefixes", -1, "nearest is 0"),
        ("tok", 0.1, "takes no target"),
    ],
)
def test_qualities_that_are_refused(capsys, folder, pictures, tmp_path, name, quality, words):
    options = [pictures, "--out", tmp_path / "codes", "--tokenizer", folder / name, "--quality", quality]
    failing(command(capsys, "tokenize", *options), words, status=2)


@pytest.mark.parametrize("source", ["folder", "ten"])
def test_pictures_are_ranked_by_their_number_of_tokens(capsys, folder, tiny_data, tmp_path, source):
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for i in range(6):
        picture(tmp_path / "in" / "cat" / f"{i}.png", seed=i)
    data = tmp_path / "in" if source == "folder" else "ten"
    options = [
        "tokenize",
        data,
        "--tokenizer",
        folder / "adaptive",
        "--quality",
        0.05,
        "--out",
        tmp_path / "codes",
    ]
    planned = command(capsys, *options, "--dry-run", "--json").json["files"]
    document = command(capsys, *options, "--json").json
    written = {str(path.relative_to(tmp_path / "codes")) for path in (tmp_path / "codes").rglob("[!.]*.*")}
    assert written == set(planned) >= {"complexity.png", "tokens.csv"}
    with (tmp_path / "codes" / "tokens.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == (
        [f"cat/{i}.png" for i in range(6)] if source == "folder" else [str(i) for i in range(10)]
    )
    for split in ("train", "validation"):
        counts = [int(row["tokens"]) for row in rows if row["split"] == split]
        assert counts == Codes.load(tmp_path / "codes" / split).token_counts().tolist()
        assert document[split]["tokens"]["mean"] == pytest.approx(sum(counts) / len(counts), abs=0.01)
    assert Image.open(tmp_path / "codes" / "complexity.png").size[0] > 200
    again = command(capsys, *options)
    assert again.status == 0, "the same command finds everything done"


def test_pictures_with_all_tokens_are_not_ranked(capsys, folder, tiny_data, tmp_path):
    options = ["tokenize", "ten", "--tokenizer", folder / "prefixes", "--out", tmp_path / "codes"]
    assert command(capsys, *options).status == 0
    assert not (tmp_path / "codes" / "complexity.png").exists()
