"""What the card of a checkpoint says: its name, picture, licence and the keys of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from command import command, picture, tiny_tokenizer

from arzoo.checkpoints.card import card_of, model_card, title_of
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.checkpoints.index import PICTURE, read_index
from arzoo.checkpoints.names import BUNDLED

GENERATOR = {"kind": "generator", "arzoo": "1", "parts": {}, "spec": {"layout": {"grid": [1, 8, 8]}}}


def keys(index: dict[str, Any]) -> dict[str, Any]:
    return yaml.safe_load(model_card("x", index, {}).split("---")[1])


def test_a_run_has_the_name_of_its_folder(tmp_path):
    assert title_of(tmp_path / "mine" / "checkpoint") == "mine"
    assert title_of(tmp_path / "mine" / "state" / "step_0000500" / "checkpoint") == "mine"
    assert title_of(tmp_path / "mine") == "mine"
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    folder = tiny_tokenizer(tmp_path / "runs" / "mine" / "checkpoint")
    assert (folder / "README.md").read_text().count("mine") >= 3
    assert "# mine\n" in card_of(folder)


def test_a_picture_is_shown_and_travels_with_the_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tiny_tokenizer(tmp_path / "tok")
    assert PICTURE not in card_of(folder)
    picture(folder / PICTURE)
    assert f"]({PICTURE})" in card_of(folder)
    for target in ("copy", "copy.tar"):
        assert command(capsys, "checkpoints", "export", "tok", target).status == 0
    assert (Path("copy") / PICTURE).read_bytes() == (folder / PICTURE).read_bytes()
    assert f"]({PICTURE})" in (Path("copy") / "README.md").read_text()
    assert command(capsys, "checkpoints", "show", "copy.tar").status == 0


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        ({}, "unconditional-image-generation"),
        ({"text": {"name": "minilm"}}, "text-to-image"),
        ({"spec": {"layout": {"grid": [5, 8, 8]}}}, None),
        ({"spec": {"layout": {"grid": [5, 8, 8]}}, "text": {"name": "minilm"}}, "text-to-video"),
        ({"kind": "tokenizer"}, "image-feature-extraction"),
        ({"kind": "value", "generator": {"name": "g"}}, None),
    ],
)
def test_the_task_is_one_of_the_hub(facts, task):
    assert keys(GENERATOR | facts).get("pipeline_tag") == task


def test_weights_of_drawings_are_share_alike():
    index = read_index(BUNDLED / "nar_emoji64")
    assert keys(index)["license"] == "cc-by-sa-4.0"
    assert "The weights: CC-BY-SA 4.0" in model_card("nar_emoji64", index, {})


def test_a_picture_that_is_saved_with_the_checkpoint_is_on_its_card(tmp_path):
    module = load_parts(BUNDLED / "vq_emoji64")[1]["tokenizer"]
    save_parts(
        tmp_path / "tok", "tokenizer", {"tokenizer": module}, add=lambda folder: picture(folder / PICTURE)
    )
    assert f"]({PICTURE})" in (tmp_path / "tok" / "README.md").read_text()


@pytest.mark.parametrize(("data", "licence"), [("emoji32", "cc-by-sa-4.0"), ("emoji_of_mine", None)])
def test_the_licence_of_drawings_is_that_of_two_data_sets_alone(data, licence):
    index = GENERATOR | {"training": {"recipe": {"data": data}}}
    assert keys(index).get("license") == licence
    assert ("CC-BY-SA" in model_card("x", index, {})) == bool(licence)


@pytest.mark.parametrize(
    ("kind", "what"),
    [("generator", "Pictures"), ("tokenizer", "Held-out data above"), ("value", "Explained variance and")],
)
def test_a_preview_is_called_what_it_is(kind, what):
    assert f"![{what}" in model_card("x", GENERATOR | {"kind": kind}, {}, picture=True)


def test_an_unknown_licence_is_not_invented():
    assert "license" not in keys(GENERATOR)
    assert "not recorded" in model_card("x", GENERATOR, {})
    for stated, key in (("MIT", "mit"), ("Apple's", "other"), ("unknown", None), ("", None)):
        converted = GENERATOR | {"training": {"converted": "a.pt", "licence": stated, "at": "https://b"}}
        assert keys(converted).get("license") == key
        assert "https://b" in model_card("x", converted, {})
