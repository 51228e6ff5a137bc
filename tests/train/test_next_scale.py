"""Training of a multi-scale VQ tokenizer and of a generator of the family var on its codes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from next_scale import PACE, generator_recipe, multi_scale_tokenizer
from PIL import Image

import arzoo.data
from arzoo.base import registry
from arzoo.base.config import Named
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.generation.generator import Generator
from arzoo.models.var.network import VARConfig
from arzoo.train.build import run
from arzoo.train.optim import undecayed
from arzoo.train.recipe import Recipe, load_recipe
from arzoo.train.sizing import open_tokenizer


def losses(out, name="loss"):
    return [line[name] for line in map(json.loads, (out / "log.jsonl").open())]


def tokenizer_recipe(**changes):
    model = {
        "name": "msvq_4_micro", "levels": [1, 2, 8], "widths": [16, 16], "decoder_widths": [], "vocab": 32,
        "code_channels": 4,
    }  # fmt: skip
    whole = {
        "task": "tokenizer", "data": "two", "model": model,
        "loss": {"l1": 1.0, "perceptual": 0.05, "adversarial": 0.1, "adversarial_start": 30, "discriminator_width": 8,
                 "discriminator_layers": 2},
        "codebook": {"seed_at": 4, "restart_every": 4, "restart_until": 20},
        "optim": {"lr": 3e-3, "warmup": 3, "ema": 0.5}, "run": PACE | {"steps": 40},
    }  # fmt: skip
    return Recipe.from_dict(whole | changes)


@pytest.fixture
def larger(two_colours, monkeypatch):
    """The same pictures in 32 x 32 pixels, which the perceptual network needs."""
    data = arzoo.data.load("two")
    images = data.images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    monkeypatch.setattr(arzoo.data, "load", lambda *_: replace(data, images=images))


def test_a_tokenizer_learns_all_its_losses_and_shows_every_level(larger, tmp_path):
    found = run(tokenizer_recipe(), tmp_path / "out")
    each = losses(tmp_path / "out", "l1")
    assert sum(each[-6:]) < 0.85 * sum(each[:6])
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last.keys() >= {
        "perceptual",
        "adversarial",
        "discriminator_loss",
        "codebook",
        "commitment",
        "codes_used",
    }
    assert sum(losses(tmp_path / "out", "codes_replaced")) > 0
    assert found["metrics"]["validation_psnr"] > 10
    sheet = Image.open(tmp_path / "out" / "previews" / "levels_0000040.png")
    assert sheet.width > sheet.height / 4, "a column for the picture and one for each level"
    model = open_checkpoint(tmp_path / "out" / "checkpoint", "tokenizer").load("tokenizer")
    assert model.config.levels == (1, 2, 8)


def test_a_generator_learns_is_saved_and_draws(two_colours, tmp_path):
    tokenizer = multi_scale_tokenizer(tmp_path / "tokenizer")
    found = run(generator_recipe(tokenizer), tmp_path / "out")
    each = losses(tmp_path / "out")
    assert sum(each[-6:]) < 0.9 * sum(each[:6])
    assert found["metrics"]["validation_loss"] > 0
    by_level = losses(tmp_path / "out", "loss_by_step")
    assert len(by_level[-1]) == 3, "a loss for each level"
    model = Generator.load(tmp_path / "out" / "checkpoint", tokenizer)
    one, two = (model.generate(classes=[0, 1], seed=3, batch=size) for size in (1, 2))
    assert torch.equal(one, two)


def test_training_goes_on_where_it_stopped(two_colours, tmp_path):
    tokenizer = multi_scale_tokenizer(tmp_path / "tokenizer")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(generator_recipe(tokenizer), whole)
    run(generator_recipe(tokenizer), parts, max_steps=20)
    run(generator_recipe(tokenizer), parts)
    assert losses(whole)[-1] == losses(parts)[-1]


def test_skipped_branches_follow_from_the_sample(two_colours, tmp_path):
    """The loss of a step does not depend on how it is divided."""
    tokenizer = multi_scale_tokenizer(tmp_path / "tokenizer")
    model = Named(name="var_tiny", settings={"width": 48, "depth": 2, "heads": 2, "drop_path": 0.5})
    for name, accumulate in (("one", 1), ("two", 2)):
        pace = PACE | {"steps": 3, "accumulate": accumulate}
        run(generator_recipe(tokenizer, model=model.to_dict(), run=pace), tmp_path / name)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    torch.testing.assert_close(torch.tensor(one), torch.tensor(two), atol=1e-4, rtol=1e-4)


def test_shipped_recipes_belong_together():
    tokenizer, generator = load_recipe("msvq_emoji64"), load_recipe("var_emoji64")
    assert tokenizer.loss.perceptual > 0
    assert tokenizer.loss.adversarial > 0
    assert generator.tokenizer == "msvq_emoji64"
    config = registry.lookup("tokenizer", tokenizer.model.name)()
    backbone = registry.lookup("backbone", generator.model.name)()
    assert (config.levels, config.vocab) == (backbone.levels, backbone.vocab)
    assert (config.code_channels, config.image_size) == (backbone.code_channels, 64)


def test_tables_of_var_are_not_decayed():
    sizes = {"width": 16, "depth": 1, "heads": 2, "levels": (1, 2), "vocab": 8, "code_channels": 4}
    backbone = VARConfig(**sizes, shared_modulation=True).build()
    tables = {"first", "positions", "level.weight", "blocks.0.offset", "blocks.0.attention.scale"}
    assert undecayed(backbone) == tables <= dict(backbone.named_parameters()).keys()


def test_a_tokenizer_that_was_not_trained_yet_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArzooError, match=r"Train it first: arzoo train anyres_emoji64 --out runs/anyres_emoji64"
    ):
        open_tokenizer(load_recipe("longcat_emoji64", {"tokenizer": "runs/anyres_emoji64"}))
    with pytest.raises(UnknownName, match="runs/another"):
        open_tokenizer(load_recipe("var_emoji64", {"tokenizer": "runs/another"}))
