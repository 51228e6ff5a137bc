"""Agreement of verifiers with what pictures show, and `arzoo verifiers`."""

from dataclasses import replace

import pytest
import torch
from command import CLASSES, command, failing, tiny_generator, tiny_tokenizer

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.data.base import ImageSet
from arzoo.generation.generator import Generator
from arzoo.metrics.agreement import (
    agreement,
    area,
    calibrate,
    different_captions,
    mismatched,
    subjects_of,
)
from arzoo.samplers.verifiers.base import PictureVerifier

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def squares(held_out=True):
    """Two squares of every colour, of a brighter and of a darker one."""
    names = [name for name in COLOURS for _ in range(2)]
    pixels = torch.tensor([COLOURS[name] for name in names]).mul(torch.tensor([1.0, 0.8] * 3)[:, None])
    return ImageSet(
        name="squares",
        images=pixels[:, None, None].expand(6, 16, 16, 3).to(torch.uint8),
        labels=torch.arange(6) // 2,
        classes=CLASSES,
        held_out=torch.full((6,), held_out),
        captions=tuple(names),
    )


class Eyes(PictureVerifier):
    """Sees the colour that it is asked for."""

    name, needs, range = "eyes", frozenset({"prompt"}), (-1.0, 0.0)

    def __init__(self, subject, blind: bool = False):
        self.colour = (0, 0, 0) if blind else COLOURS[subject.prompt]

    def score_images(self, images):
        return -(images.float().mean((1, 2)) - torch.tensor(self.colour)).abs().mean(1) / 255


class Labels(Eyes):
    """Sees colors of classes."""

    name, needs = "labels", frozenset({"class"})

    def __init__(self, subject):
        self.colour = list(COLOURS.values())[CLASSES.index(subject.label)]


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    registry.names("verifier")
    registry.names("dataset")
    monkeypatch.setitem(registry._entries["verifier"], "eyes", Eyes)
    monkeypatch.setitem(registry._entries["verifier"], "labels", Labels)
    monkeypatch.setitem(registry._entries["dataset"], "squares", squares)


def test_right_subjects_score_higher():
    seen = []
    document = calibrate("eyes", squares(), progress=lambda done, total: seen.append((done, total)))
    assert document["n"] == 3
    assert document["real"]["right_over_wrong"] == {"value": 1, "error": 0}
    assert document["real"]["auc"] == {"value": 1, "error": 0}
    assert "generated" not in document
    assert document["not_covered"] == ["pictures of a generator: no model was given"]
    assert seen == [(2, 6), (4, 6), (6, 6)]
    blind = calibrate("eyes", squares(), options={"blind": True})
    assert blind["real"]["right_over_wrong"]["value"] == blind["real"]["auc"]["value"] == 0.5, "ties are half"
    assert calibrate("reference", replace(squares(), images=squares().images.repeat(1, 2, 2, 1)))["real"][
        "right_over_wrong"
    ] == {"value": 1, "error": 0}, "the other drawing of a caption is the reference"


def test_pictures_of_a_generator(tmp_path):
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    model = Generator.load(tmp_path / "gen")
    document = calibrate("labels", squares(), model=model, seed=3)
    assert 0 <= document["generated"]["right_over_wrong"]["value"] <= 1
    assert document["real_over_generated"]["auc"]["value"] > 0.9, "random weights draw no such colours"
    assert calibrate("labels", squares(), model=model, seed=3)["generated"] == document["generated"]
    sharp = calibrate("sharpness", squares(), model=model)
    assert sharp["real_over_generated"]["auc"]["value"] == 0
    assert "real" not in sharp
    assert sharp["not_covered"] == ["right and wrong subjects: sharpness does not look at what is asked for"]
    prompts = calibrate("eyes", squares(), model=model)
    assert "real" in prompts
    assert prompts["not_covered"] == ["generated pictures: there is no prompt for them"]
    assert "tokens were drawn" in calibrate("likelihood", squares())["not_covered"][0]
    with pytest.raises(ArzooError, match="ensemble compares candidates with each other"):
        calibrate("ensemble", squares())


def test_wrong_subjects_are_of_another_key():
    keys = ["a"] * 3 + ["b"] * 2 + ["c"]
    for seed in range(5):
        order = mismatched(keys, seed)
        assert sorted(order) == list(range(6))
        assert all(keys[i] != keys[j] for i, j in enumerate(order))
    with pytest.raises(ArzooError, match="3 of 5 pictures have the same class"):
        mismatched(["a"] * 3 + ["b"] * 2, 0)


def test_areas():
    right, wrong = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 1.0])
    assert area(right, wrong)["value"] == (1 + 1 + 0 + 0.5) / 4
    assert agreement(right, wrong)["right_over_wrong"]["value"] == 0.75
    many = torch.randn(200, generator=torch.Generator().manual_seed(0))
    known = area(many[:100] + 1, many[100:])
    assert known["value"] == pytest.approx(0.76, abs=0.1)  # of two normals one deviation apart
    assert known["error"] == pytest.approx(0.034, abs=0.02)


def test_captions_are_different_and_have_a_drawing():
    data = squares()
    rows = different_captions(data, 0, seed=3)
    assert sorted(data.select(rows).captions) == sorted(COLOURS)
    assert different_captions(data, 2, seed=3).tolist() == rows[:2].tolist()
    assert any(different_captions(data, 0, seed=i).tolist() != rows.tolist() for i in range(4))
    with pytest.raises(ArzooError, match="3 different captions, but 4"):
        different_captions(data, 4, seed=0)
    plain = replace(data, captions=None)
    assert len(different_captions(plain, 0, 0)) == 6
    subject = subjects_of(plain, torch.tensor([4]))[0]
    assert (subject.prompt, subject.label, subject.reference) == (None, CLASSES[2], None)


def test_verifiers_are_listed(capsys):
    listed = command(capsys, "verifiers", "--json").json["verifiers"]
    assert {"image_text", "class_probe", "likelihood", "ocr", "ensemble", "eyes"} <= set(listed)
    assert listed["likelihood"]["decodes"] == 0
    assert listed["likelihood"]["range"] == [None, 0]
    assert listed["ocr"]["extra"] == "ocr"
    assert listed["ensemble"]["needs"] is None, "they are those of its members"
    assert set(listed["image_text"]["networks"]) & set(listed["class_probe"]["networks"]) == set()
    text = command(capsys, "verifiers", "ls").out
    assert "bad verifier on purpose" in text


def test_calibrate_scores_pictures_of_a_model(capsys, tmp_path):
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    options = ["labels", "--data", "squares", "--model", tmp_path / "gen", "--seed", 3]
    document = command(capsys, "verifiers", "calibrate", *options, "--json").json
    assert document["protocol"]["model"] == str(tmp_path / "gen")
    expected = calibrate("labels", squares(), model=Generator.load(tmp_path / "gen"), seed=3)
    for name in ("real", "generated", "real_over_generated", "not_covered"):
        assert document[name] == expected[name]
    printed = command(capsys, "verifiers", "calibrate", *options)
    assert (printed.status, printed.err) == (0, "")
    for words in ("real, auc", "generated, right_over_wrong", "real_over_generated, auc"):
        assert words in printed.out
    missing = command(
        capsys, "verifiers", "calibrate", "labels", "--data", "squares", "--model", tmp_path / "no"
    )
    failing(missing, str(tmp_path / "no"), status=2)


def test_calibrate_prints_figures(capsys):
    result = command(capsys, "verifiers", "calibrate", "eyes:blind=false", "--data", "squares", "--num", 2)
    assert (result.status, result.err) == (0, "")
    assert "real, right_over_wrong" in result.out
    assert "not covered: pictures of a generator" in result.out
    document = command(capsys, "verifiers", "calibrate", "eyes", "--data", "squares", "--json").json
    assert document["protocol"]["data"] == "squares"
    assert document["real"]["auc"]["value"] == 1
    failing(command(capsys, "verifiers", "calibrate"), "calibrate NAME", status=2)
    failing(command(capsys, "verifiers", "ls", "x"), "arzoo verifiers ls", status=2)
    failing(command(capsys, "verifiers", "calibrate", "eye"), "unknown verifier 'eye'", "'eyes'", status=2)
    failing(command(capsys, "verifiers", "calibrate", "eyes:blind"), "'blind' is not KEY=VALUE", status=2)
    failing(command(capsys, "verifiers", "calibrate", "eyes", "--num", "-1"), "--num", "-1", status=2)
