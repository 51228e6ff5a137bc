"""The code cache: whole or refused, and what it says about its origin."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from command import command, picture, ten_pictures, tiny_kl_tokenizer, tiny_tokenizer
from continuous import made

from arzoo import registry
from arzoo.checkpoint import Checkpoint, load_parts, save_parts, weights_sha256
from arzoo.cli.measurable import data_of
from arzoo.errors import ArzooError
from arzoo.generator import Generator
from arzoo.index import data_of as recorded_data
from arzoo.index import seal
from arzoo.train.codes import INDEX, LABELS, Codes, encode_split
from arzoo.train.recipe import Recipe, load_recipe
from arzoo.train.views import Views


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_tokenizer(tmp_path_factory.mktemp("models") / "tok")


@pytest.fixture(scope="module")
def cache(tokenizer, tmp_path_factory):
    model = load_parts(tokenizer)[1]["tokenizer"]
    return encode_split(tmp_path_factory.mktemp("codes") / "train", model, "hash", ten_pictures(), Views())


def content(codes: Codes) -> tuple:
    rows = codes.rows(torch.zeros(10, dtype=torch.long), torch.arange(10))
    return rows.tolist(), codes.labels.tolist(), codes.classes, codes.key, codes.spec, codes.source


def rewrite(folder, **changes) -> None:
    """An index of a cache that says something else, as if it had been written so."""
    found = json.loads((folder / INDEX).read_text()) | changes
    (folder / INDEX).write_text(json.dumps(found | {"seal": seal(found)}))


@pytest.mark.parametrize("name", [INDEX, LABELS, "shard_00000.safetensors"])
def test_a_damaged_cache_is_refused_or_says_the_same(cache, tmp_path, name):
    folder, wanted = tmp_path / "codes", content(cache)
    shutil.copytree(cache.folder, folder)
    whole = (folder / name).read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 30))
    damaged = [whole[:i] for i in places]
    for bit in (0x01, 0x20, 0x80):
        damaged += [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i in places]
    refused = 0
    for content_of_file in damaged:
        (folder / name).write_bytes(content_of_file)
        try:
            same = content(Codes.load(folder)) == wanted
        except ArzooError as error:
            same = "not a whole code cache" in str(error)
            refused += 1
        assert same
    assert refused > len(damaged) // 2
    (folder / name).unlink()
    with pytest.raises(ArzooError, match=r"not a (whole )?code cache"):
        Codes.load(folder)


@pytest.mark.parametrize(
    "text", ["[]", "null", "3", '{"format": 3}', '{"format": 3, "seal": 1}', "[" * 100000]
)
def test_an_index_that_is_none_is_refused(cache, tmp_path, text):
    shutil.copytree(cache.folder, tmp_path / "codes")
    (tmp_path / "codes" / INDEX).write_text(text)
    with pytest.raises(ArzooError, match="not a whole code cache"):
        Codes.load(tmp_path / "codes")


def test_labels_fit_pictures_and_classes(cache, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    rewrite(tmp_path / "codes", classes=["even"])
    with pytest.raises(ArzooError, match="labels from 0 to 1, there are 1 classes"):
        Codes.load(tmp_path / "codes")
    rewrite(tmp_path / "codes", classes=["even", "odd"], pictures=9)
    with pytest.raises(ArzooError, match=r"labels of \(10,\) for 9 pictures"):
        Codes.load(tmp_path / "codes")


def test_encoding_again_repairs_labels(cache, tokenizer, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    (tmp_path / "codes" / LABELS).write_bytes(b"")
    model = load_parts(tokenizer)[1]["tokenizer"]
    again = encode_split(tmp_path / "codes", model, "hash", ten_pictures(), Views())
    assert content(again) == content(cache)


def test_caches_of_an_older_format_say_how_to_make_them_anew(cache, tmp_path):
    shutil.copytree(cache.folder, tmp_path / "codes")
    rewrite(tmp_path / "codes", format=2)
    with pytest.raises(ArzooError, match=r"format 2, this version reads 3\). Remove it, or .* --overwrite"):
        Codes.load(tmp_path / "codes")


def encoded(folder, tokenizer, data, source: str = "") -> None:
    """Both splits, as `arzoo tokenize` writes them."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    digest = Checkpoint(tokenizer, json.loads((tokenizer / "model_index.json").read_text()))
    for split in ("train", "validation"):
        encode_split(
            folder / split, model, digest.parts["tokenizer"]["weights"], data.split(split), Views(),
            source=source,
        )  # fmt: skip


def recipe_of_codes(tokenizer, codes) -> Recipe:
    changes = {"tokenizer": str(tokenizer), "codes": str(codes), "width": 32, "depth": 1}
    return load_recipe("nar_emoji64", changes)


def recorded(recipe, tmp_path) -> Checkpoint:
    """A checkpoint with what training would write about its origin."""
    training = {"recipe": recipe.to_dict(), "lineage": recipe.build().lineage}
    return Checkpoint(tmp_path, {"kind": "generator", "parts": {}, "training": training})


def test_a_generator_descends_from_the_data_of_its_codes(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    encoded(tmp_path / "codes", tokenizer, ten_pictures(), "ten")
    found = recorded(recipe_of_codes(tokenizer, tmp_path / "codes"), tmp_path)
    assert recorded_data(found.index) == ("ten", ten_pictures().split("train").sha256)
    assert data_of(found) == "ten"


def test_codes_without_a_name_are_not_given_one(tokenizer, tmp_path):
    encoded(tmp_path / "codes", tokenizer, ten_pictures())
    recipe = recipe_of_codes(tokenizer, tmp_path / "codes")
    found = recorded(recipe, tmp_path)
    assert recorded_data(found.index)[0] == ""
    with pytest.raises(ArzooError, match="does not say what it was trained on"):
        data_of(found)
    # Older checkpoints name the default data set beside the hash of another one.
    old = {"recipe": recipe.to_dict(), "lineage": {"data": {"name": "emoji64", "sha256": "1" * 64}}}
    assert recorded_data({"training": old}) == ("", "1" * 64)


def test_tokenize_records_where_the_pictures_are(capsys, tokenizer, tmp_path, monkeypatch):
    for i in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(tmp_path / "in" / f"{i}.png", seed=i)
    monkeypatch.chdir(tmp_path)
    result = command(capsys, "tokenize", "in", "--tokenizer", tokenizer, "--out", "codes")
    assert result.status == 0, result.err
    assert Codes.load(tmp_path / "codes" / "train").source == str(tmp_path / "in")


def rescaled(tokenizer, folder):
    """The same weights with another scale of the vectors."""
    model = load_parts(tokenizer)[1]["tokenizer"]
    other = model.config.replace(scale=2 * model.config.scale).build()
    other.load_state_dict(model.state_dict())
    save_parts(folder, "tokenizer", {"tokenizer": other}, spec=other.spec.to_dict())
    assert weights_sha256(other) == weights_sha256(model)
    return folder


def test_codes_of_the_same_weights_in_another_scale_are_refused(tmp_path):
    first = tiny_kl_tokenizer(tmp_path / "tok")
    other = rescaled(first, tmp_path / "other")
    encoded(tmp_path / "codes", first, ten_pictures())
    changes = {"codes": str(tmp_path / "codes"), "width": 32, "depth": 1}
    load_recipe("mar_emoji64", {**changes, "tokenizer": str(first)}).build()
    with pytest.raises(ArzooError, match="such as another scale"):
        load_recipe("mar_emoji64", {**changes, "tokenizer": str(other)}).build()


def test_a_generator_refuses_its_tokenizer_in_another_scale(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    first = tiny_kl_tokenizer(tmp_path / "tok")
    other = rescaled(first, tmp_path / "other")
    made("mar", first).save(tmp_path / "gen")
    assert Generator.load(tmp_path / "gen").tokenizer.config.scale == 0.5
    with pytest.raises(ArzooError, match=r"with scale 0\.5, not 1\.0 as in the one you passed"):
        Generator.load(tmp_path / "gen", other)
    path = tmp_path / "gen" / "model_index.json"
    index = json.loads(path.read_text())
    del index["tokenizer"]["settings"]
    path.write_text(json.dumps(index | {"seal": seal(index)}))
    assert Generator.load(tmp_path / "gen", other).tokenizer.config.scale == 1.0, "as older generators do"
