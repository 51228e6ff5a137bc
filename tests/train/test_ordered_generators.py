"""Generators over ordered tokens from their shipped recipes, with tiny parts: training, resuming and drawing."""

from __future__ import annotations

import shutil

import pytest
import torch
from command import ten_pictures
from ordered import tiny_adaptive, tiny_prefixes
from words import add_words

from arzoo.base import registry
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.generation.generator import Generator
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe

TOKENIZERS = {"ar_ordered_emoji64": tiny_prefixes, "ar_karl_emoji64": tiny_adaptive}
"""Writes a tokenizer in place of the one that a recipe names."""


def captioned():
    """Ten pictures with captions, of a class with a style and one without."""
    data = ten_pictures()
    captions = tuple(f"thing {i // 2}" for i in range(10))
    return type(data)(**{**vars(data), "classes": ("cat-face/round", "food"), "captions": captions})


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_recipe_trains_resumes_and_draws_classes_and_texts(name, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "captioned", captioned)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    TOKENIZERS[name](tmp_path / "tok")
    changes = {
        "data": "captioned", "tokenizer": str(tmp_path / "tok"), "text": add_words(monkeypatch), "variants": 1,
        "balance": 0.0, "model": {"width": 32, "depth": 1},
        "run": {"steps": 4, "batch": 8, "threads": 0, "preview_every": 4, "save_every": 2, "log_every": 2},
    }  # fmt: skip
    recipe = load_recipe(name, changes)
    run(recipe, tmp_path / "whole")
    assert (tmp_path / "whole" / "previews" / "samples_0000004.png").exists()
    for steps in (2, 4):
        run(recipe, tmp_path / "halves", max_steps=steps)
    whole, halves = (open_checkpoint(tmp_path / each / "checkpoint").parts for each in ("whole", "halves"))
    assert {part: facts["weights"] for part, facts in whole.items()} == {
        part: facts["weights"] for part, facts in halves.items()
    }
    shutil.copytree(tmp_path / "tok", tmp_path / "whole" / "checkpoint" / "tok")
    model = Generator.load(tmp_path / "whole" / "checkpoint")
    by_class = model.generate(classes=["cat-face/round", "food"], seeds=[1, 2])
    assert by_class.stills.shape == (2, 16, 16, 3)
    assert torch.equal(by_class, model.generate(prompts=["cat face, round", "food"], seeds=[1, 2]))
    short = model.generate(prompts=["food"] * 3, tokens=3)
    assert int(short.token_counts.max()) <= 3
