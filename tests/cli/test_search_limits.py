"""`arzoo search` where verifiers return no scores, plans have one step, or tokens are many."""

from __future__ import annotations

import pytest
import torch
from command import CLASSES, command, failing
from ordered import tiny_ordered_generator, tiny_prefixes
from painting import Blue, Red

from arzoo.base import registry


class Unsure(Red):
    """Has no opinion of some pictures."""

    name = "unsure"

    def score_images(self, images):
        return super().score_images(images).where(torch.arange(len(images)) % 2 == 0, torch.nan)


class Wordy(Red):
    """Says more than it is asked for."""

    name = "wordy"

    def score_images(self, images):
        return torch.stack([super().score_images(images)] * 2, 1)


@pytest.fixture(autouse=True)
def verifiers(monkeypatch):
    registry.names("verifier")
    for kind in (Red, Blue, Unsure, Wordy):
        monkeypatch.setitem(registry._entries["verifier"], kind.name, kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_prefixes(folder / "few")
    tiny_ordered_generator(folder / "ordered", folder / "few", CLASSES)
    tiny_ordered_generator(folder / "at once", folder / "few", CLASSES, group=8)
    return folder


def searching(capsys, model, *options):
    return command(capsys, "search", model, "--class", CLASSES[0], "--judge", "blue", *options)


@pytest.mark.parametrize("method", ["best_of_n", "beam", "lookahead", "particles"])
def test_verifiers_that_return_no_scores(capsys, folder, tmp_path, method):
    """They are named, with what they returned; nothing is kept as a result."""
    for verifier, words in {
        "unsure": ("verifier 'unsure' returned NaN for ",),
        "wordy": ("verifier 'wordy' must return one real number per picture", ", 2)"),
    }.items():
        options = ["--method", method, "--verifier", verifier, "--out", tmp_path / verifier]
        failing(searching(capsys, folder / "ordered", *options), *words, "0 of 1 pictures are finished")
        assert not (tmp_path / verifier / "pictures").exists()


def test_a_judge_that_returns_no_score(capsys, folder, tmp_path):
    options = ["--verifier", "red", "--judge", "wordy", "--samples", 2, "--out", tmp_path / "out"]
    result = command(capsys, "search", folder / "ordered", "--class", CLASSES[0], *options)
    failing(result, "verifier 'wordy' must return one real number per picture", "got shape (1, 2)")


@pytest.mark.parametrize("method", ["beam", "lookahead"])
def test_plans_of_one_step_have_nothing_to_compare(capsys, folder, tmp_path, method):
    who = ["--verifier", "red"]
    options = [*who, "--method", method, "--out", tmp_path / "a"]
    failing(searching(capsys, folder / "at once", *options), "draws everything in one step", "use BestOfN")
    whole = searching(capsys, folder / "at once", *who, "--samples", 3, "--out", tmp_path / "b", "--json")
    assert whole.status == 0, whole.err


def test_published_numbers_of_decodes(capsys, tmp_path):
    """A beam of 5 x 10 and best of 50 over 256 ordered tokens, predicted without drawing."""
    model = tiny_ordered_generator(tmp_path / "many", tiny_prefixes(tmp_path / "tok", 256), CLASSES)
    for options, counts in {
        ("--method", "beam", "--width", 5, "--candidates", 10): (410, 1 + 5 * 255),
        ("--samples", 50): (50, 50 * 256),
    }.items():
        dry = searching(capsys, model, "--verifier", "red", *options, "--dry-run", "--json")
        assert dry.status == 0, dry.err
        assert (dry.json["decodes"], dry.json["network_calls"]) == counts
        assert dry.json["verifications"] == dry.json["decodes"]
