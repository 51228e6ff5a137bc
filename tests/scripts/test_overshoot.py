"""The script that measures overshooting: candidates are those of a search, and figures are right."""

import json
import sys

import pytest
import torch
from command import CLASSES, tiny_generator, tiny_tokenizer
from scripted import scripts
from words import add_words

from arzoo.base import registry
from arzoo.base.errors import UsageError
from arzoo.data.base import ImageSet
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader
from arzoo.samplers.search.best_of_n import BestOfN


def squares():
    """Three held-out squares of different captions."""
    return ImageSet(
        name="squares",
        images=torch.arange(3)[:, None, None, None].mul(80).expand(3, 16, 16, 3).to(torch.uint8),
        labels=torch.arange(3),
        classes=CLASSES,
        held_out=torch.ones(3, dtype=torch.bool),
        captions=("red", "green", "blue"),
    )


@pytest.fixture
def script(monkeypatch, tmp_path):
    registry.names("dataset")
    monkeypatch.setitem(registry._entries["dataset"], "squares", squares)
    add_words(monkeypatch)
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), text=PromptReader("words", 6))
    with scripts("scripts/dev/reproduce") as load:
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path / "claims")
        yield load("overshoot")


def test_candidates_are_those_of_a_search(script, tmp_path):
    model = Generator.load(tmp_path / "gen")
    drawn = script.candidates(model, "red", 5, seed=3, batch=2)
    found = model.search(
        BestOfN(5, results=5), lambda x: -x.double().mean((1, 2, 3, 4)), prompts=["red"], seed=3
    )
    order = (-drawn.double().mean((1, 2, 3))).sort(descending=True, stable=True).indices
    assert (found.pictures.stills.double() - drawn[order].double()).abs().max() <= 2, "but for rounding"
    assert torch.equal(drawn[:2], script.candidates(model, "red", 2, seed=3, batch=2))


def test_each_verifier_chooses_among_the_first(script):
    steering = {"a": torch.tensor([1.0, 2.0, 3.0, 9.0]), "b": torch.tensor([3.0, 2.5, 0.0, 9.0])}
    assert script.chosen(steering, 1) == {"a": 0, "b": 0, "ensemble": 0}
    assert script.chosen(steering, 3) == {"a": 2, "b": 0, "ensemble": 0}
    assert script.chosen(steering, 4) == {"a": 3, "b": 3, "ensemble": 3}


def test_a_fall_is_measured_within_seeds(script):
    row = script.summary(torch.tensor([[0.0, 3.0, 1.0], [10.0, 13.0, 10.0]]))
    assert row["values"] == [5, 8, 5.5]
    assert (row["highest"], row["fall"], row["gain"]) == (1, 2.5, 0.5)
    assert row["fall_error"] == pytest.approx(0.5)
    assert row["errors"][0] == pytest.approx(5)


def test_figures_are_written(script, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(script, "STEERING", {"sharpness": {}})
    monkeypatch.setattr(script, "JUDGES", {"sharpness": {}})
    options = ["--model", str(tmp_path / "gen"), "--data", "squares", "--num", "2", "--samples", "5"]
    monkeypatch.setattr(sys, "argv", ["overshoot.py", *options, "--seeds", "0", "1"])
    script.main()
    document = json.loads((tmp_path / "claims" / "overshoot.json").read_text())
    assert {len(line) for line in document["cells"]} == {len(document["head"])}
    rows = document["rows"]
    assert rows["counts"] == [1, 2, 4]
    assert rows["sharpness"]["sharpness"] == rows["sharpness"]["own score"]
    values = rows["sharpness"]["own score"]["values"]
    assert values == sorted(values), "more candidates cannot be worse in its own eyes"
    assert rows["sharpness"]["own score"]["fall"] == 0
    assert "own score" not in rows["ensemble"]
    assert (tmp_path / "claims" / "overshoot.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"), [(["--samples", "1"], "got 1"), (["--model", "nar_emoji64"], "draws classes")]
)
def test_wrong_use(script, monkeypatch, options, message):
    monkeypatch.setattr(sys, "argv", ["overshoot.py", *options])
    with pytest.raises(UsageError, match=message):
        script.main()
