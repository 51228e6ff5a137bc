"""One training in both directions: losses, micro-batches, checkpoints, and recipes that cannot learn it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from described import SIZES, residual_tokenizer
from rich.console import Console

import arzoo.data
from arzoo.base.errors import ArzooError
from arzoo.core.tokens import Tokens
from arzoo.data.base import ImageSet
from arzoo.generation.generator import Generator
from arzoo.train.build import prepared, run
from arzoo.train.directions import CODE_WEIGHT
from arzoo.train.recipe import Recipe


def stripes() -> ImageSet:
    """Forty pictures of stripes up and down, or across, and their captions."""
    labels = torch.arange(40) % 2
    images = torch.randint(0, 8, (40, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    bright = torch.arange(16) // 2 % 2 * 240
    images[labels == 0] += bright[None, :, None]
    images[labels == 1] += bright[:, None, None]
    captions = ("down", "across !") * 20
    return ImageSet(
        "two", images.to(torch.uint8), labels, ("down", "across"), torch.arange(40) >= 32, captions=captions
    )


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Return a function that makes recipes with changes."""
    monkeypatch.setattr(arzoo.data, "load", lambda *_: stripes())
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    tokenizer = residual_tokenizer(tmp_path / "tok")

    def make(share=0.5, steps=3, pace=None, **changes):
        every = {"preview_every": 1000, "save_every": 1000, "log_every": 1}
        whole = {
            "task": "generator", "data": "two", "tokenizer": str(tokenizer), "variants": 1, "text": "bytes",
            "model": {"name": "longcat_tiny", **SIZES}, "plan": "newlines", "heads": [{"name": "depth", "heads": 2}],
            "generator": {"describe": share, "style_words": 0.0, "guidance": 1.0},
            "optim": {"lr": 6e-3, "warmup": 3, "clip": 1.0, "ema": 0.5},
            "run": {"steps": steps, "batch": 8, "trackers": [], **every} | (pace or {}),
        }  # fmt: skip
        return Recipe.from_dict(whole | changes)

    return make


def course(recipe, out):
    """The log of every step, and the gradient norm of the last."""
    engine = prepared(recipe, out, Console(quiet=True), None)
    batches, lines = engine.batches(range(recipe.run.steps)), []
    for _ in range(recipe.run.steps):
        lines.append(engine.train_step(batches, engine.wrapped))
        engine.step += 1
    names = ("loss", "picture_loss", "text_loss", "model_gradient_norm")
    return [[float(line[name]) for name in names] for line in lines]


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_micro_batches_change_roundings_only(recipe, tmp_path, share):
    """Also those of one sample, which goes one way alone; dropout is on."""
    whole, *parts = [course(recipe(share, pace={"accumulate": n}), tmp_path) for n in (1, 2, 8)]
    for one in parts:
        assert one == [pytest.approx(line, rel=1e-4) for line in whole]
    assert len({tuple(line) for line in whole}) == 3


def test_a_share_of_the_samples_is_described_and_losses_are_weighted(recipe):
    objective = recipe(0.25).build()
    batch = objective.batch(0, range(16, 32))
    assert batch.rows == ([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14], [3, 7, 11, 15])
    captions = [bytes(ids).decode() for ids in objective.describer.ids(Tokens.of(batch.texts.targets))]
    labels = objective.sampler.rows(range(16, 32))[[3, 7, 11, 15]] % 2
    assert captions == [("down", "across !")[label] for label in labels.tolist()]
    assert objective.mean_tokens == (0.75 * 16, 0.25 * 7), "16 positions; 5 and 9 letters with the end"
    network = objective.parts["model"].eval()
    loss, numbers = objective.loss("model", objective.parts, batch, 0)
    pictures, texts = (each.detach() for each in network(batch))
    counts = torch.tensor([[5, 9][label] for label in labels.tolist()])
    summed = sum(float(row[:count].sum()) for row, count in zip(texts, counts, strict=True))
    expected = (CODE_WEIGHT * float(pictures.sum()) + summed) / (16 * (12 + 1.75))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(numbers["text_loss"]) == pytest.approx(summed / (16 * 1.75), rel=1e-5)
    fresh = float(texts[0, 0])
    assert fresh == pytest.approx(math.log(257), rel=1e-5), "the head of texts begins with a uniform guess"


def test_both_losses_fall_and_the_checkpoint_describes(recipe, tmp_path):
    plain = {"name": "longcat_tiny", **SIZES, "dropout": 0.0, "token_dropout": 0.0}
    result = run(recipe(steps=160, model=plain), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    first, last = lines[:5], lines[-6:]
    for name, share in (("text_loss", 0.1), ("picture_loss", 0.8)):
        before, after = (
            sum(line[name] for line in some if name in line) / len(some) for some in (first, last)
        )
        assert after < share * before, (name, before, after)
    assert result["metrics"]["validation_text_loss"] < 0.1
    model = Generator.load(tmp_path / "run" / "checkpoint", tmp_path / "tok")
    data = stripes()
    assert model.describe(data.pixels(torch.arange(32, 40))[..., :3]) == ["down", "across !"] * 4
    assert model.generate("down").stills.shape == (1, 16, 16, 3)
    fresh = recipe(0.0, init=str(tmp_path / "run" / "checkpoint")).build()
    assert fresh.model.backbone.words is None
    word = model.backbone.word.weight
    assert torch.equal(fresh.model.backbone.word.weight, word), "the words of either direction are the same"


def test_recipes_that_cannot_learn_it(recipe):
    raster = {"name": "raster_tiny", "width": 32, "depth": 1}
    for changes, message in (
        ({"model": raster}, "backbone 'raster_tiny' draws pictures only: take one of the family longcat"),
        ({"text": ""}, "generator.describe=0.5 also trains captions .* set text=bytes"),
        ({"generator": {"describe": 0.5, "mixture": {"next_all": 1.0}}}, "leave mixture out"),
        (
            {"share": 0.0, "model": {"name": "longcat_tiny", "describes": True}},
            "generator.describe=0 does not train",
        ),
    ):
        with pytest.raises(ArzooError, match=message):
            recipe(**changes).build()
    for share, message in ((1.0, "describe must be less than 1"), (-0.1, "describe"), (1.5, "describe")):
        with pytest.raises(ArzooError, match=message):
            recipe(share)
