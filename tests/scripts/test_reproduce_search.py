"""The scripts that measure what a search buys, and what a verifier draws alone, with tiny models."""

import json
import sys

import pytest
import torch
from command import tiny_generator, tiny_tokenizer
from ordered import TOKENIZERS, build
from painting import Red, painter
from scripted import scripts
from words import add_words

from arzoo.base import registry
from arzoo.cli.judges import OF_PROMPTS, Choice
from arzoo.cli.methods import USUAL
from arzoo.data.base import ImageSet
from arzoo.generation.prompts import PromptReader
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.lengths import geometric
from arzoo.samplers.verifiers.base import PictureVerifier


class Alike(PictureVerifier):
    """How near the redness of a picture is to that of its caption, "3" of 4 for instance."""

    name, networks = "alike", frozenset({"eye"})

    def __init__(self, subject):
        self.target = float(subject.prompt) / 4

    def score_images(self, images):
        return -(images[..., 0].float().flatten(1).mean(1) / 255 - self.target).abs()


def grey():
    """Five held-out pictures, from black to white, with captions that say so."""
    brightness = (torch.arange(5) / 4 * 255).to(torch.uint8)
    return ImageSet(
        name="grey",
        images=brightness[:, None, None, None].expand(5, 16, 16, 3),
        labels=torch.zeros(5, dtype=torch.long),
        classes=("grey",),
        held_out=torch.ones(5, dtype=torch.bool),
        captions=("0", "1", "2", "3", "4"),
    )


@pytest.fixture
def load(monkeypatch, tmp_path):
    with scripts("scripts/dev/reproduce") as load:
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path / "claims")
        yield load


def test_methods_are_as_large_as_the_budget_allows(load):
    script = load("search_budget")
    assert [script.width_of(budget, 6) for budget in (1, 12, 43, 44, 128)] == [1, 1, 1, 2, 3]
    for method, sizes in script.arms(32, [16, 64]).items():
        for budget, way in zip((16, 64), sizes, strict=True):
            if isinstance(way, Beam):
                assert way.candidates + (len(geometric(32)) - 1) * way.width * way.candidates <= budget
            else:
                assert budget - 6 < getattr(way, "samples", getattr(way, "particles", 0) * 6) <= budget, (
                    method
                )


def test_gains_of_searches(load, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    painter(tmp_path)
    script = load("search_budget")
    monkeypatch.setattr(script, "open_verifier", lambda name, subject, **settings: Red(subject))
    options = [str(tmp_path / "gen"), "--num", "2", "--seeds", "0", "1", "--budgets", "12", "30"]
    monkeypatch.setattr(sys, "argv", ["search_budget.py", *options])
    script.main()
    document = json.loads((tmp_path / "claims" / "search_budget.json").read_text())
    assert len(document["cells"]) == len(document["rows"]) == 1 + 4 * 2
    assert {len(line) for line in document["cells"]} == {len(document["head"])}
    rows = {name.split(", ", 1)[1]: row for name, row in document["rows"].items()}
    assert rows["plain"]["gain"] == 0
    assert rows["best of N, 30"]["decodes"] == 30
    assert 0 < rows["best of N, 12"]["gain"] <= rows["best of N, 30"]["gain"]
    for row in rows.values():
        assert row["gain"] == pytest.approx(row["judge"] - rows["plain"]["judge"], abs=1e-6)
        assert row["verifier"] == row["judge"], "here the same one steers and judges"
    assert (tmp_path / "claims" / "search_budget.png").stat().st_size > 0


def test_a_verifier_alone_draws_what_it_is_told(load, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    registry.names("dataset")
    monkeypatch.setitem(registry._entries["dataset"], "grey", grey)
    registry.names("verifier")
    monkeypatch.setitem(registry._entries["verifier"], "alike", Alike)
    script = load("training_free")
    tokenizer = build(TOKENIZERS["titok"])
    monkeypatch.setattr(script.arzoo, "load", lambda name: tokenizer)
    monkeypatch.setattr(script, "JUDGES", {"alike": {}})
    monkeypatch.setattr(script, "open_verifier", lambda name, subject: Alike(subject))
    options = ["--data", "grey", "--num", "5", "--seeds", "0", "1", "--tokens", "1", "2", "--candidates", "4"]
    monkeypatch.setattr(sys, "argv", ["training_free.py", *options])
    script.main()
    document = json.loads((tmp_path / "claims" / "training_free.json").read_text())
    assert {len(line) for line in document["cells"]} == {len(document["head"])}
    searched, real = document["rows"]["searched 2"], document["rows"]["held-out drawings"]
    assert document["rows"]["searched 1"]["decodes"] == 4
    assert searched["decodes"] == 4 + 2 * 4
    assert real["alike"]["right"][0] == pytest.approx(0, abs=0.01)
    assert real["alike"]["other"][0] < -0.25
    right, other, difference = (searched["alike"][name][0] for name in ("right", "other", "difference"))
    assert difference == pytest.approx(right - other)
    assert right > -0.5
    assert (tmp_path / "claims" / "training_free.png").stat().st_size > 0


def test_gains_are_those_of_the_default_search(load):
    """What steers is what steers prompts by default, with the settings that its name says."""
    script = load("search_gain")
    assert tuple(script.STEERING) == OF_PROMPTS.steering
    for text, settings in script.STEERING.items():
        assert Choice.read(text, "--verifier").typed == settings
    assert script.BestOfN == registry.lookup("search_method", USUAL)
    assert OF_PROMPTS.judges[0] in script.JUDGES


def test_gains_over_captions(load, tmp_path, monkeypatch):
    registry.names("dataset")
    monkeypatch.setitem(registry._entries["dataset"], "grey", grey)
    add_words(monkeypatch)
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), text=PromptReader("words", 6))
    registry.names("verifier")
    monkeypatch.setitem(registry._entries["verifier"], "alike", Alike)
    script = load("search_gain")
    monkeypatch.setattr(script, "STEERING", {"alike": {}, "alike:again": {}})
    monkeypatch.setattr(script, "JUDGES", {"alike": {}})
    options = [str(tmp_path / "gen"), "--data", "grey", "--num", "4", "--samples", "8"]
    monkeypatch.setattr(sys, "argv", ["search_gain.py", *options])
    script.main()
    document = json.loads((tmp_path / "claims" / "search_gain.json").read_text())
    assert {len(line) for line in document["cells"]} == {len(document["head"])}
    row = document["rows"][str(tmp_path / "gen")]["alike"]
    assert row["gain"] == pytest.approx(row["search"] - row["plain"])
    assert row["gain"] >= 0, "the first sample is plain drawing, and what steers is what judges"
    assert script.paired(torch.tensor([[0.0, 1.0], [1.0, 4.0]])) == {
        "plain": 0.5, "search": 2.5, "gain": 2.0, "error": pytest.approx(1.0)
    }  # fmt: skip
