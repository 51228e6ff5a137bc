"""nan and infinity are refused or named where weights, pictures, tokens or figures enter, are stored or scored."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings

import pytest
import torch
from command import command, failing, ten_pictures, tiny_kl_tokenizer, tiny_models, tiny_tokenizer
from safetensors.torch import load_file, save_file
from words import WordsConfig

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256, seal
from arzoo.base.finite import NotANumber
from arzoo.checkpoints.folder import load_parts, open_checkpoint, save_parts
from arzoo.data.encoding import encode_split
from arzoo.data.transforms import to_uint8
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.metrics.comparison import figures
from arzoo.metrics.protocol import Figure, Protocol
from arzoo.metrics.record import _entries
from arzoo.metrics.samples import DrawnPictures
from arzoo.metrics.scores.reconstruction import reconstruct

VALUES = [float("nan"), float("inf"), -float("inf")]


def spoil(folder, value):
    """A checkpoint that says of its broken weights what they are."""
    path = folder / "tokenizer" / "model.safetensors"
    state = load_file(path)
    name = sorted(state)[0]
    state[name].view(-1)[0] = value
    save_file(state, path)
    index = json.loads((folder / "model_index.json").read_text())
    index["parts"]["tokenizer"]["sha256"] = file_sha256(path)
    index["seal"] = seal(index)
    (folder / "model_index.json").write_text(json.dumps(index))
    return name


@pytest.mark.parametrize("value", VALUES)
def test_weights_are_neither_loaded_nor_verified(capsys, tmp_path, value):
    name = spoil(tiny_tokenizer(tmp_path / "tok"), value)
    with pytest.raises(ArzooError, match=f"not finite .*{name}"):
        open_checkpoint(tmp_path / "tok").load("tokenizer")
    failing(command(capsys, "checkpoints", "verify", tmp_path / "tok"), "not finite", name)
    failing(command(capsys, "convert", tmp_path / "tok", tmp_path / "x", "--bits", 8), "not finite")


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_weights_are_not_stored(tmp_path, bits):
    _, parts = load_parts(tiny_tokenizer(tmp_path / "tok"))
    next(parts["tokenizer"].parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(ArzooError, match=r"to be stored hold values that are not finite"):
        save_parts(tmp_path / "x", "tokenizer", parts, bits=bits)
    assert not (tmp_path / "x").exists()


def test_pictures_are_named():
    pictures = torch.zeros(3, 3, 4, 4)
    pictures[1, 0, 2, 2] = float("nan")
    with pytest.warns(NotANumber, match="1 of 3 pictures"):
        done = to_uint8(pictures)
    assert (int(done[1, 2, 2, 0]), int(done[0, 0, 0, 0])) == (0, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_uint8(torch.full((1, 3, 2, 2), 1e9))


def test_pictures_are_not_scored(tmp_path):
    folder = tiny_models(tmp_path)
    model = Generator.load(folder / "gen", folder / "tok")
    for weights in model.tokenizer.parameters():
        weights.data.fill_(float("nan"))
    with pytest.warns(NotANumber):
        model.generate(classes=[0])
    drawn = DrawnPictures("gen", model, torch.zeros(4, dtype=torch.long), "")
    with pytest.raises(ArzooError, match="a score of it would say nothing"):
        drawn.read([0, 1])
    with pytest.raises(ArzooError, match="a score of it would say nothing"):
        reconstruct(model.tokenizer, torch.zeros(2, 16, 16, 3, dtype=torch.uint8))


def test_tokens_and_features_of_captions_are_not_kept(tmp_path):
    tokenizer = open_checkpoint(tiny_kl_tokenizer(tmp_path / "kl")).load("tokenizer")
    next(tokenizer.parameters()).data.fill_(float("inf"))
    with pytest.raises(ArzooError, match="tokens of these pictures hold values that are not finite"):
        encode_split(tmp_path / "codes", tokenizer, "0" * 64, ten_pictures(), Views())
    encoder = WordsConfig().build()
    encoder.mix.data[0, 0] = float("nan")
    with pytest.raises(ArzooError, match="features of captions"):
        encoder(["dog"], 4)


def test_figures_are_left_out_or_refused(monkeypatch):
    broken = {"bad": Figure(float("nan")), "good": Figure(1.0)}
    monkeypatch.setitem(registry._entries["metric"], "broken", lambda comparison: broken)
    found, left_out = figures(None, ["broken"], strict=False)
    assert (found, "bad would be no number" in left_out["broken"]) == ({}, True)
    with pytest.raises(ArzooError, match="no number"):
        figures(None, ["broken"], strict=True)


def test_figures_that_are_no_numbers_are_on_no_leaderboard():
    words = {
        field.name: "x" for field in dataclasses.fields(Protocol) if field.default is dataclasses.MISSING
    }
    protocol = Protocol(**(words | {"n": 4, "n_reference": 4})).to_dict()
    values = (1.0, math.nan, math.inf)
    stored = {f"fd{i}@x": {"value": value, "protocol": protocol} for i, value in enumerate(values)}
    assert [entry.value for entry in _entries("a", stored, {})] == [1.0]
