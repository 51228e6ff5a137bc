"""`arzoo generate --prompt` with a tiny model of texts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command import CLASSES, command, failing, pixels, tiny_generator, tiny_tokenizer
from words import add_words

from arzoo.cli.pictures import read_settings
from arzoo.generation.prompts import PromptReader


@pytest.fixture
def text_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tiny generator of texts."""
    reader = PromptReader(add_words(monkeypatch), 6)
    return tiny_generator(tmp_path / "text", tiny_tokenizer(tmp_path / "tok"), text=reader)


def test_prompts_name_the_files_and_stay_in_the_pictures(capsys, text_model, tmp_path):
    prompts = ["red heart", "../a dog: 50% off?"]
    options = ["--prompt", *prompts, "--num", 3, "--guidance", 2, "--out", tmp_path / "a"]
    result = command(capsys, "generate", text_model, *options, "--json")
    assert result.status == 0, result.err
    names = ["0000_red-heart_seed0.png", "0001_a-dog-50-off_seed0.png", "0002_red-heart_seed0.png"]
    assert [Path(file).name for file in result.json["files"]] == [*names, "grid.png"]
    second = tmp_path / "a" / names[1]
    settings = read_settings(str(second))
    assert settings["prompt"] == prompts[1]
    assert settings["text_encoder"].startswith("words ")
    assert "class" not in settings
    assert read_settings(str(tmp_path / "a" / "grid.png"))["prompts"] == [*prompts, prompts[0]]
    assert not np.array_equal(pixels(tmp_path / "a" / names[0]), pixels(second))
    again = command(capsys, "generate", "--like", second, "--out", tmp_path / "b")
    assert again.status == 0, again.err
    assert np.array_equal(pixels(second), pixels(tmp_path / "b" / "0000_a-dog-50-off_seed0.png"))
    command(capsys, "generate", "--like", second, "--prompt", "cat", "--out", tmp_path / "c")
    changed = tmp_path / "c" / "0000_cat_seed0.png"
    assert read_settings(str(changed))["sample_seed"] == settings["sample_seed"]


def test_long_prompts_are_cut_with_a_note(capsys, text_model, tmp_path):
    prompt = "one two three four " + "x" * 300
    result = command(capsys, "generate", text_model, "--prompt", prompt, "--num", 1, "--out", tmp_path / "a")
    assert result.status == 0, result.err
    assert "has 7 tokens, but the model reads only 6" in result.err
    assert "PromptRemark" not in result.err
    (path,) = (tmp_path / "a").glob("0000*.png")
    assert len(path.name) < 80


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        ([], ['--prompt "red heart"'], 2),
        (["--class", "0"], ["has no classes", "--prompt"], 2),
        (["--prompt", "  "], ["a prompt is empty"], 2),
        (["--prompt", "a", "--class", "0"], ["--class or --prompt"], 2),
        (["--prompt", "a", "--text-encoder", "other_words"], ["trained with text encoder 'words'"], 1),
        (["--prompt", "a", "--text-encoder", "none"], ["unknown text encoder 'none'"], 2),
    ],
)
def test_prompts_that_cannot_be_drawn(capsys, text_model, tmp_path, options, words, status):
    result = command(capsys, "generate", text_model, *options, "--out", tmp_path / "out")
    failing(result, *words, status=status)
    assert not (tmp_path / "out").exists()


def test_a_model_of_texts_with_classes_draws_both(capsys, text_model, tmp_path):
    reader = PromptReader("words", 6)
    tiny_generator(text_model, tmp_path / "tok", text=reader, classes=CLASSES)
    draw = ("generate", text_model, "--json", "--out")
    spread = command(capsys, *draw, tmp_path / "a", "--num", 3)
    assert spread.status == 0, spread.err
    names = [Path(file).name for file in spread.json["files"][:3]]
    assert names == [f"000{i}_{name.replace('/', '-')}_seed0.png" for i, name in enumerate(CLASSES)]
    one, same = (
        Path(command(capsys, *draw, tmp_path / option, option, subject, "--num", 1).json["files"][0])
        for option, subject in (("--class", "animal/round"), ("--prompt", "animal, round"))
    )
    assert np.array_equal(pixels(one), pixels(same))
    assert read_settings(str(one))["class"] == "animal/round"
    again = command(capsys, "generate", "--like", one, "--out", tmp_path / "d")
    assert again.status == 0, again.err
    failing(command(capsys, *draw, tmp_path / "e", "--class", "dog"), "unknown class 'dog'", status=2)


def test_a_dry_run_of_prompts_names_the_files_of_the_real_one(capsys, text_model, tmp_path):
    options = ["--prompt", "red heart", "one two three four five", "--num", 3, "--out", tmp_path / "made"]
    result = command(capsys, "generate", text_model, *options, "--dry-run", "--json")
    assert result.status == 0, result.err
    assert "PromptRemark" not in result.err
    assert not (tmp_path / "made").exists()
    assert command(capsys, "generate", text_model, *options).status == 0
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(result.json["files"])


def test_the_package_for_texts_may_be_absent(capsys, text_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    options = ["--prompt", "dog", "--text-encoder", "minilm", "--out", tmp_path / "out"]
    failing(command(capsys, "generate", text_model, *options), "pip install 'arzoo[text]'")
