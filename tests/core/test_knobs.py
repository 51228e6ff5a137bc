"""Knobs and classes: the command line and Python know the same ranges and the same names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command import command, failing, tiny_models

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import RANGES, Control, Progress
from arzoo.data.base import label_of
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import control_from_data, control_to_data, over_steps

OUTSIDE = {
    "guidance": [float("nan"), float("inf"), 1e5, "3", True],
    "temperature": [0, -1, float("nan"), 1e3, None],
    "top_p": [0, 2, -0.5, float("nan")],
    "top_k": [-1, 2.5, 2**40, float("nan"), True],
    "head_steps": [-1, 1001, 2.5],
    "max_timestep": [0, 1000, 2.5],
    "greedy": [1, "yes", None],
}
WRONG = [(name, value) for name, values in OUTSIDE.items() for value in values]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Generator:
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    return Generator.load(folder / "gen", folder / "tok")


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_out_of_range_is_refused_before_anything_is_drawn(model, name, value):
    control = Control(**{name: value})
    with pytest.raises(ArzooError, match=name):
        model.generate(classes=[0], control=control)
    with pytest.raises(ArzooError, match=name):
        next(model.stream(classes=[0], control=control))


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_out_of_range_is_neither_stored_nor_loaded(tmp_path, model, name, value):
    with pytest.raises(ArzooError, match=name):
        control_from_data({name: value})
    with pytest.raises(ArzooError, match=name):
        control_to_data(Control(**{name: value}))
    broken = model.with_weights(model.backbone, model.heads)
    broken.control = Control(**{name: value})
    with pytest.raises(ArzooError, match=name):
        broken.save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_line_knows_the_same_ranges(capsys, tmp_path):
    folder = tiny_models(tmp_path)
    for name, value in (
        ("guidance", "nan"),
        ("temperature", -1),
        ("top_p", 2),
        ("top_k", 2**40),
        ("head_steps", 1001),
    ):
        options = (
            "--tokenizer",
            folder / "tok",
            "--" + name.replace("_", "-"),
            value,
            "--out",
            tmp_path / "x",
        )
        failing(command(capsys, "generate", folder / "gen", *options), f"must be {RANGES[name]}", status=2)
    assert not (tmp_path / "x").exists()


def test_a_schedule_is_checked_at_every_step(model):
    with pytest.raises(ArzooError, match=r"top_p .*, from its schedule at step 1"):
        model.generate(classes=[0], control=Control(top_p=over_steps(1.0, 3.0)))
    settings = Control(top_k=over_steps(1, 4)).at(Progress(1, 3, 1, 2, 3))
    assert (settings.top_k, type(settings.top_k)) == (2, int)


def test_temperature_0_is_refused_with_what_draws_the_most_likely_code(model):
    for temperature in (0, over_steps(1.0, 0.0)):
        with pytest.raises(
            ArzooError, match=r"temperature 0.* must be above 0 .* use greedy=True \(--greedy\)"
        ):
            model.generate(classes=[0], control=Control(temperature=temperature))
    with pytest.raises(ArzooError, match=r"temperature -1 must be above 0 and at most 100$"):
        model.generate(classes=[0], temperature=-1)


def test_ranges_say_what_is_allowed():
    assert str(RANGES["top_p"]) == "above 0 and at most 1"
    assert str(RANGES["head_steps"]) == "a whole number from 0 to 1000"
    assert np.float32(0.5) in RANGES["top_p"]
    assert np.int64(3) in RANGES["top_k"]


NAMED = {
    "words": (("ant", "bee", "cat"), {"bee": 1, "1": 1, 2: 2, np.int64(0): 0}, ("3", 3, -1, "-1", "bea")),
    "from one": (("1", "2", "3"), {"1": 0, 1: 0, "3": 2, 3: 2}, ("0", 0, 4, "ant")),
    "in the order of text": (("0", "1", "10", "2"), {"2": 3, 2: 3, 10: 2}, (3, "3", -1)),
    "one of them": (("ant", "7", "cat"), {"7": 1, 7: 1, "cat": 2}, (0, "2")),
    "with zeros": (("01", "02"), {"01": 0}, (1, "1", 0)),
    "none": ((), {5: 5, "5": 5, -1: -1}, ("ant",)),
}


@pytest.mark.parametrize("names", NAMED)
def test_a_number_means_one_thing(names):
    classes, known, unknown = NAMED[names]
    assert {name: label_of(name, classes) for name in known} == known
    for name in unknown:
        with pytest.raises(ArzooError):
            label_of(name, classes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat", "It fits 3 names: wild-cat/plain, wild-cat/round, caterpillar/plain. Give a whole name."),
        ("Caterpillar", "Did you mean 'caterpillar/plain'?"),
        ("wolv", "Names with a like word: wolf/plain."),
        ("wolf/plaix", "Did you mean 'wolf/plain'"),
        ("", "unknown class ''"),
    ],
)
def test_a_part_of_class_names_is_refused_with_the_names(text, said):
    with pytest.raises(UnknownName) as refused:
        label_of(text, ("wild-cat/plain", "wild-cat/round", "wolf/plain", "caterpillar/plain"))
    assert said in str(refused.value)


@pytest.mark.parametrize("value", [0.7, 1.0, True, None, float("nan"), np.bool_(True), (1,)])
def test_a_class_is_a_name_or_a_whole_number(model, value):
    with pytest.raises(ArzooError, match="whole number"):
        model.generate(classes=[value])


def test_numbers_that_are_names_mean_the_same_on_the_command_line_and_in_python(capsys, tmp_path):
    folder = tiny_models(tmp_path)
    model = Generator.load(folder / "gen", folder / "tok")
    model.classes = ("1", "2", "10")
    model.save(folder / "numbers")
    model = Generator.load(folder / "numbers", folder / "tok")
    images = model.generate(classes=[2, "2", 10], seeds=[1, 1, 1]).stills
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[2], model.generate(classes=["10"], seeds=[1]).stills[0])
    with pytest.raises(UnknownName, match="named by numbers"):
        model.generate(classes=[0])
    options = ("generate", folder / "numbers", "--tokenizer", folder / "tok", "--threads", 1)
    failing(
        command(capsys, *options, "--class", "0", "1", "--out", tmp_path / "a"), "named by numbers", status=2
    )
    done = command(capsys, *options, "--num", 3, "--class", 10, 2, 1, "--out", tmp_path / "a")
    names = sorted(path.name.split("_")[1] for path in (tmp_path / "a").glob("0*.png"))
    assert (done.status, names) == (0, ["1", "10", "2"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"seed": 0.5}, "the seed must be a whole number, got 0.5"),
        ({"seed": float("nan")}, "the seed must be"),
        ({"seed": True}, "the seed must be"),
        ({"seeds": [0.5]}, "the seed of a picture must be"),
        ({"seeds": "1"}, "the seed of a picture must be"),
        ({"batch": 2.5}, "batch must be a whole number of at least 1, got 2.5"),
        ({"batch": True}, "batch must be"),
        ({"batch": 0}, "batch must be"),
        ({"classes": 3}, "class of every picture"),
        ({"classes": torch.tensor([0.7])}, "whole number"),
        ({"control": {"temperature": 1.0}}, "knobs must be a Control"),
    ],
)
def test_numbers_are_not_cut_to_whole_ones(model, asked, words):
    with pytest.raises(ArzooError, match=words):
        model.generate(**{"classes": [0], **asked})
