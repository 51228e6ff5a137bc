"""Training on captions: their conditions, style, dropout, and a short run."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from command import ten_pictures, tiny_tokenizer
from words import Words, add_words

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.generation.gaps import Untrained
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader, class_words, with_style
from arzoo.train.build import run
from arzoo.train.conditions import Captions, Labels, conditions
from arzoo.train.gaps import in_words
from arzoo.train.recipe import load_recipe


@pytest.fixture
def words(monkeypatch) -> str:
    return add_words(monkeypatch)


def test_captions_that_are_not_read_whole_are_said_before_the_training(words, monkeypatch):
    monkeypatch.setattr(Words, "unknown", lambda self, caption: ["thing"])
    reader = PromptReader(words, 6)
    said = in_words(Untrained(), 0, reader, ["thing 0", "one two three four five six"])
    assert said["captions"].count(" of 2 captions") == 2
    assert in_words(Untrained(), 3, None, ()) == {}


def captioned():
    data = ten_pictures()
    return type(data)(
        **{
            **vars(data),
            "classes": ("a/twemoji", "a/openmoji"),
            "captions": tuple(f"thing {i // 2}" for i in range(10)),
        }
    )


def test_style_is_named_in_half_of_the_texts(words):
    data = captioned()
    told = conditions(data, PromptReader(words, 6), 0.5, 0.0)
    assert isinstance(told, Captions)
    rows = torch.tensor([0, 1, 2, 3] * 250)
    cond = told.cond(rows, draws=Draws(range(1000)))
    lengths = cond.text_mask.sum(1)
    assert set(lengths.tolist()) == {4, 5}, "marks, two words, and the style"
    assert abs(float((lengths == 5).float().mean()) - 0.5) < 0.06
    again = told.cond(rows, draws=Draws(range(1000)))
    assert torch.equal(cond.text, again.text)
    plain = told.cond(rows[:4])
    expected, mask = PromptReader(words, 6).encoder([data.captions[i] for i in range(4)], 6)
    torch.testing.assert_close(plain.text, expected)
    assert torch.equal(plain.text_mask, mask)
    assert told.request(rows[:2]) == {"prompts": ["thing 0", "thing 0"]}
    assert (with_style("dog", "twemoji"), with_style("dog", "")) == ("dog, twemoji", "dog")


def test_words_of_the_class_replace_a_share_of_the_captions(words):
    data = dataclasses.replace(captioned(), classes=("small-cat_face/twemoji", "b"))
    conditioned = conditions(data, PromptReader(words, 6), 0.5, 0.25)
    rows, reader = torch.tensor([0, 1] * 500), PromptReader(words, 6)
    cond = conditioned.cond(rows, draws=Draws(range(1000)))
    assert class_words("small-cat_face/twemoji") == "small cat face, twemoji"
    shares = []
    for row, text in enumerate(("small cat face, twemoji", "b")):
        feature = reader.cond([text]).text
        shares.append(float((cond.text[rows == row] == feature).flatten(1).all(1).float().mean()))
    assert all(abs(share - 0.25) < 0.06 for share in shares)
    alone = conditions(data, PromptReader(words, 6), 0.5, 0.0)
    draws, more = Draws(range(8)), Draws(range(8))
    alone.cond(rows[:8], draws=draws)
    more.uniform((8,))
    assert torch.equal(draws.uniform((8,)), more.uniform((8,))), "a training without them draws as before"


def test_a_model_trained_on_captions_and_class_words_draws_both(words, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "captioned", captioned)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    recipe = micro_recipe(tiny_tokenizer(tmp_path / "tok"), text=words, generator={"class_words": 0.5})
    run(recipe, tmp_path / "run", max_steps=2)
    shutil.copytree(tmp_path / "tok", tmp_path / "run" / "checkpoint" / "tok")
    model = Generator.load(tmp_path / "run" / "checkpoint")
    assert (model.classes, model.text.name) == (captioned().classes, words)
    assert "--class a/twemoji" in (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    by_class = model.generate(classes=["a/openmoji", 0], seeds=[1, 2])
    by_words = model.generate(prompts=["a, openmoji", "a, twemoji"], seeds=[1, 2])
    assert torch.equal(by_class, by_words)
    start = micro_recipe(tmp_path / "tok", text=words, init=str(tmp_path / "run" / "checkpoint")).build()
    expected = model.backbone.state_dict()["condition.fc1.weight"]
    assert torch.equal(start.model.backbone.state_dict()["condition.fc1.weight"], expected)


def test_conditions_without_captions(words):
    told = conditions(ten_pictures(), None, 0.5, 0.0)
    assert isinstance(told, Labels)
    assert torch.equal(told.cond(torch.tensor([1, 2])).label, torch.tensor([1, 0]))
    with pytest.raises(ArzooError, match="'ten' has no captions"):
        conditions(ten_pictures(), PromptReader(words, 6), 0.5, 0.0)


def micro_recipe(tokenizer, **changes):
    """The shipped text recipe with a micro model over ten pictures."""
    sizes = {
        "model": {"width": 32, "depth": 1},
        "variants": 1,
        "data": "captioned",
        "tokenizer": str(tokenizer),
        "balance": 0.0,
    }
    pace = {"steps": 12, "batch": 8, "threads": 0, "preview_every": 12, "save_every": 6, "log_every": 4}
    return load_recipe(
        "nar_emoji64_text", {**sizes, "init": "", "run": pace, "optim": {"warmup": 2}, **changes}
    )


def test_training_on_captions_learns_saves_and_draws(words, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "captioned", captioned)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    tokenizer = tiny_tokenizer(tmp_path / "tok")
    recipe = micro_recipe(tokenizer, text=words)
    result = run(recipe, tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").open()]
    assert losses[-1] < losses[0] - 0.1
    assert result["metrics"]["validation_loss"] < 2.8, "ln(16) is 2.77"
    assert (tmp_path / "run" / "previews" / "samples_0000012.png").exists()
    shutil.copytree(tokenizer, tmp_path / "run" / "checkpoint" / "tok")
    model = Generator.load(tmp_path / "run" / "checkpoint")
    assert model.backbone.config.text_length == 16
    assert model.generate(prompts=["thing 1, twemoji"]).stills.shape == (1, 16, 16, 3)
    halves = tmp_path / "halves"
    for steps in (6, 12):
        run(recipe, halves, max_steps=steps)
    once, twice = (
        open_checkpoint(f / "checkpoint").parts["backbone"]["weights"] for f in (tmp_path / "run", halves)
    )
    assert once == twice
    other = dataclasses.replace(captioned(), captions=("something else",) * len(captioned()))
    monkeypatch.setitem(registry._entries["dataset"], "captioned", lambda: other)
    with pytest.raises(ArzooError, match=r"data\.annotations_sha256 was .*captions, names of classes or"):
        run(recipe, halves)


def test_dropped_captions_use_the_null_caption(words, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "captioned", captioned)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    recipe = micro_recipe(tiny_tokenizer(tmp_path / "tok"), text=words)
    objective = recipe.build()
    cond = objective.batch(0, range(200)).cond
    assert 0 < int(cond.dropped.sum()) < 60
    prefix = objective.model.backbone.eval().condition(cond)
    dropped = prefix[cond.dropped]
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    kept = Cond(cond.batch, text=cond.text, text_mask=cond.text_mask)
    assert not torch.equal(prefix, objective.model.backbone.condition(kept))
