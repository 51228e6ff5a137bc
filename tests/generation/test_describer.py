"""Pictures in words: in Python and on the command line."""

from __future__ import annotations

import pytest
import torch
from command import command, failing, picture, tiny_models
from described import residual_tokenizer, two_way_model

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.generation.generator import Generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of both directions, one that only draws, their tokenizer, and three pictures."""
    root = tmp_path_factory.mktemp("both")
    residual_tokenizer(root / "tok")
    two_way_model(root / "model", root / "tok")
    two_way_model(root / "draws", root / "tok", describes=False)
    (root / "pictures").mkdir()
    for i in range(3):
        picture(root / "pictures" / f"{i}.png", seed=i)
    return root


@pytest.fixture(scope="module")
def model(folder):
    return Generator.load(folder / "model", folder / "tok")


@pytest.fixture(scope="module")
def files(folder):
    return sorted(map(str, (folder / "pictures").iterdir()))


def test_a_text_depends_on_its_picture_and_seed_alone(model, files):
    texts = model.describe(files, seed=3, temperature=1.0)
    assert [type(text) for text in texts] == [str] * 3
    assert len(set(texts)) == 3
    assert model.describe(files, seed=3, temperature=1.0, batch=2) == texts
    seeds = model.generate(["a"] * 3, seed=3).seeds
    assert model.describe(files[1], seeds=seeds[1:2], temperature=1.0) == texts[1:2]
    assert model.describe(files, seed=4, temperature=1.0) != texts


def test_without_knobs_the_likeliest_letters_are_taken(model, files):
    texts = model.describe(files)
    assert model.describe(files, seed=7) == model.describe(files, control=Control(greedy=True)) == texts
    assert model.describe(files, top_k=1) == texts
    assert model.describe(files, control=Control(), temperature=2.0) != texts


def test_a_picture_can_be_read_in_another_size(model, files):
    assert len(model.with_size(8, 24).describe(files)) == 3
    with pytest.raises(ArzooError, match=r"inputs, the model takes 80"):
        model.with_size(32, 64).describe(files)


def test_it_is_saved_and_loaded(folder, model, files, tmp_path):
    assert torch.equal(model.generate("a", seed=1).tensor, model.generate("a", seed=1).tensor)
    model.save(tmp_path / "again")
    again = Generator.load(tmp_path / "again", folder / "tok")
    assert again.describe(files) == model.describe(files)
    assert set(again.parts) == {"backbone", "head"}


def test_what_it_refuses(folder, model, files, tmp_path):
    draws = Generator.load(folder / "draws", folder / "tok")
    with pytest.raises(
        ArzooError, match=r"backbone longcat of this model draws pictures .* generator\.describe=0\.5"
    ):
        draws.describe(files)
    with pytest.raises(ArzooError, match="backbone llamagen of this model draws pictures"):
        Generator.load(tiny_models(tmp_path) / "gen").describe(files)
    for knobs, message in (
        ({"guidance": 2.0}, "guidance: no effect on texts, which have temperature"),
        ({"control": Control(head_steps=4)}, "head_steps: no effect on texts"),
        ({"temperatures": 1.0}, r"unknown knob 'temperatures'\. Did you mean 'temperature'"),
        ({"temperature": 0}, r"temperature 0 must be .* use greedy=True"),
        ({"batch": 0}, "batch"),
        ({"seeds": [1]}, "1 seeds"),
    ):
        with pytest.raises(ArzooError, match=message):
            model.describe(files, **knobs)
    with pytest.raises(ArzooError, match="there is no file"):
        model.describe("missing.png")


def test_on_the_command_line(capsys, folder, model, files):
    say = ["describe", folder / "pictures", "--model", folder / "model", "--tokenizer", folder / "tok"]
    result = command(capsys, *say, "--seed", 3, "--temperature", 1, "--batch", 2, "--json")
    assert result.status == 0, result.err
    texts = model.describe(files, seed=3, temperature=1.0)
    expected = [{"picture": file, "text": text} for file, text in zip(files, texts, strict=True)]
    assert result.json["texts"] == expected
    plain = command(capsys, *say, "--num", 2)
    assert [line.split()[0] for line in plain.out.splitlines()] == files[:2]
    assert plain.out.isprintable() or all(line.isprintable() for line in plain.out.splitlines())
    assert command(capsys, *say, "--size", "24x8").status == 0
    for options, message in (
        (("--temperature", 0), "--temperature 0 must be above 0"),
        (("--top-p", 2), "--top-p 2 must be"),
        (("--num", 0), "--num must be at least 1"),
        (("--size", "7x8"), "multiples"),
    ):
        failing(command(capsys, *say, *options), message, status=2)
    drawing = [*say[:3], folder / "draws", *say[4:]]
    failing(command(capsys, *drawing), "was not trained to describe")
    failing(command(capsys, "describe", "nothing.png", *say[2:]), "there is no file nothing.png")
