"""What a training left out is said: before it, when it is asked for, and in the checkpoint; samples follow the data."""

from __future__ import annotations

import json
import warnings
from collections import Counter

import pytest
import torch
from command import CLASSES, command, picture, tiny_models, tiny_tokenizer

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import Checkpoint
from arzoo.core.control import Control
from arzoo.generation.gaps import NeverTrained, Untrained
from arzoo.generation.generator import Generator
from arzoo.metrics.conditions import classes_to_draw
from arzoo.metrics.trained_on import data_of, has_parts
from arzoo.train.recipe import load_recipe


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer(tmp_path / "tok")
    return tmp_path


def pictures(folder, counts):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            picture(folder / name / f"{i}.png", seed=100 * len(name) + sum(map(ord, name)) * 10 + i)
    return folder


def objective(folder, **changes):
    model = {"name": "nar_tiny", "width": 32, "depth": 1}
    small = {"model": model, "variants": 0, "tokenizer": "tok", "data": str(folder), "init": ""}
    return load_recipe("nar_emoji64", small | changes).build()


def test_classes_without_a_training_picture_are_said_and_recorded(work):
    pictures(work / "few", {f"n{i:02d}": 1 for i in range(20)})
    training = objective(work / "few")
    seen = set(training.codes.labels.tolist())
    held = training.model.untrained.classes
    assert held == tuple(f"n{i:02d}" for i in range(20) if i not in seen) != ()
    said = training.summary()["never trained"]
    assert said.startswith(f"{len(held)} of 20 classes")
    assert held[0] in said
    training.model.save(work / "gen")
    assert json.loads((work / "gen/model_index.json").read_text())["untrained"]["classes"] == list(held)
    model = Generator.load(work / "gen", work / "tok")
    with pytest.warns(NeverTrained, match=f"no picture of {held[0]!r}"):
        model.generate(classes=[held[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NeverTrained)
        model.generate(classes=[next(iter(seen))])


def test_guidance_over_a_null_that_was_not_trained_is_off_and_warns(work, capsys):
    pictures(work / "two", {"ant": 6, "bee": 6})
    training = objective(work / "two", generator={"label_dropout": 0.0, "guidance": 4.0})
    assert training.model.control.guidance == 1
    assert "label_dropout" in training.summary()["guidance"]
    assert "guidance" not in objective(work / "two").summary()
    training.model.save(work / "gen")
    model = Generator.load(work / "gen", work / "tok")
    with pytest.warns(NeverTrained, match="draw with guidance 1"):
        model.with_plan().generate(classes=[0], control=Control(guidance=2.0))
    options = ("--tokenizer", "tok", "--num", 1, "--threads", 1, "--guidance", 2, "--out", "drawn")
    with pytest.warns(NeverTrained, match="trained without label_dropout"):
        assert command(capsys, "generate", "gen", *options).status == 0


def test_checkpoints_of_before_say_it_in_their_recipe():
    def of(dropout):
        return Untrained.of({"training": {"recipe": {"generator": {"label_dropout": dropout}}}})

    assert (of(0.0), of(0.1)) == (Untrained(null=True), Untrained())
    for index in ({}, {"training": None}, {"training": {"recipe": []}}, {"training": [3]}):
        assert Untrained.of(index) == Untrained()
    for damaged in ([], {"classes": "ab"}, {"classes": [3]}, {"null": 1}):
        with pytest.raises(ArzooError, match="untrained"):
            Untrained.of({"untrained": damaged})


def test_samples_have_the_classes_of_the_reference_as_often_as_it_has_them(work):
    folder = tiny_models(work / "models")
    model = Generator.load(folder / "gen", folder / "tok")
    uneven = pictures(work / "uneven", {"animal": 9, "food": 3})
    model.classes = ("animal", "food", "other")
    asked, rule, notes = classes_to_draw(model, str(uneven), "all", 24)
    assert Counter(asked.tolist()) == {0: 18, 1: 6}
    assert ("of reference pictures" in rule, notes) == (True, [])
    model.classes = ("animal", "tree")
    asked, rule, (note,) = classes_to_draw(model, str(uneven), "all", 24)
    assert Counter(asked.tolist()) == {0: 12, 1: 12}
    assert "24 spread evenly over 2" in rule
    assert "'food'" in note
    model.classes = CLASSES
    assert torch.equal(classes_to_draw(model, "stats.npz", "all", 6)[0], torch.arange(6) // 2)


def test_data_that_a_recipe_names_by_the_home_folder_is_found_again(work, monkeypatch):
    monkeypatch.setenv("HOME", str(work))
    pictures(work / "pics", {"ant": 2})
    index = {"training": {"lineage": {"data": {"name": "~/pics", "sha256": "0"}}}}
    checkpoint = Checkpoint(work / "gen", index)
    assert data_of(checkpoint) == "~/pics"
    assert has_parts("~/pics", checkpoint)
    assert has_parts(str(work / "pics"), checkpoint)
