"""Verifiers by name: what they need of a subject, and plug-ins."""

import pytest
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.generation.verifiers.catalogue import open_verifier, verifier_class, verifier_classes
from arzoo.samplers.verifiers.base import OF_CANDIDATES, Subject, Verifier
from arzoo.samplers.verifiers.likelihood import Likelihood


class Theirs(Verifier):
    """A verifier of another package."""

    name, needs = "theirs", frozenset({"prompt", "class", "log_probs"})

    def __init__(self, subject, strength=1.0):
        self.subject, self.strength = subject, strength


@pytest.fixture(autouse=True)
def plug_in(monkeypatch):
    registry.names("verifier")
    monkeypatch.setitem(registry._entries["verifier"], "theirs", Theirs)


def test_open_by_name():
    subject = Subject(prompt="red heart", label="heart")
    theirs = open_verifier("theirs", subject, strength=2)
    assert (theirs.subject, theirs.strength) == (subject, 2)
    assert isinstance(open_verifier("likelihood", Subject(), published=True), Likelihood)
    with pytest.raises(UnknownName, match=r"argument of verifier 'theirs' 'strenght'.*'strength'"):
        open_verifier("theirs", subject, strenght=2)
    with pytest.raises(UnknownName, match="unknown verifier 'their'"):
        open_verifier("their", subject)


def test_a_plug_in_must_be_a_class(monkeypatch):
    monkeypatch.setitem(registry._entries["verifier"], "odd", lambda subject: torch.zeros(1))
    with pytest.warns(UserWarning, match="verifier 'odd' is"):
        assert {"theirs", "likelihood"} <= set(verifier_classes()) - {"odd"}
    with pytest.raises(ArzooError, match=r"verifier 'odd' is .* but a subclass"):
        verifier_class("odd")


def test_a_plug_in_that_cannot_be_opened_is_named(monkeypatch):
    def fail(self, subject):
        raise RuntimeError("no weights")

    monkeypatch.setattr(Theirs, "__init__", fail)
    with pytest.raises(ArzooError, match="verifier 'theirs' failed with RuntimeError: no weights"):
        open_verifier("theirs", Subject(prompt="red heart", label="heart"))


def test_the_subject_must_have_what_a_verifier_needs():
    with pytest.raises(ArzooError, match=r"'image_text' needs a prompt, .* does without: .*likelihood"):
        open_verifier("image_text", Subject(label="heart"))
    with pytest.raises(ArzooError, match=r"needs a class, which .* and a prompt"):
        open_verifier("theirs", Subject())


@pytest.mark.parametrize("name", registry.names("verifier"))
def test_attributes_of_every_verifier(name):
    kind = verifier_class(name)
    assert kind.name == name
    assert kind.needs <= {"prompt", "class", "reference"} | OF_CANDIDATES
    assert kind.range[0] < kind.range[1]
    assert kind.calls >= 1
    assert kind.__doc__


def test_ensembles_by_name():
    both = open_verifier("ensemble", Subject(), members=["likelihood", "sharpness"], weights=[2, 1])
    assert (both.pictures, both.needs, both.calls) == (True, {"log_probs"}, 2)
    assert [type(one).__name__ for one in both.verifiers] == ["Likelihood", "Sharpness"]
    assert open_verifier("weighted", Subject(), members=["likelihood"]).range == (0, 1)
    with pytest.raises(ArzooError, match="'theirs' needs a class"):
        open_verifier("ensemble", Subject(), members=["theirs"])


def test_likeness_to_a_reference():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8, generator=rng)
    verifier = open_verifier("reference", Subject(reference=images[0]))
    scores = verifier.score_images(images)
    assert scores[0] == pytest.approx(0, abs=1e-5)
    assert scores[1:].max() < scores[0] - 0.1
    with pytest.raises(ArzooError, match=r"'reconstruction' needs a reference picture\. .*sharpness"):
        open_verifier("reconstruction", Subject(prompt="red heart"))
