"""Requests of the page: their knobs, their pictures, the command that draws the same, and the line of drawings."""

from __future__ import annotations

import itertools
import shlex
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, tiny_generator, tiny_models
from continuous import patches, tiny_masked
from ordered import tiny_ordered_generator, tiny_prefixes
from PIL import Image

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.cli.demo import Demo
from arzoo.core.control import Control
from arzoo.demo.drawing import INIT, MASK, Request, drawing, side_by_side
from arzoo.demo.knobs import TEXTS, knobs_of
from arzoo.demo.models import CLASS, TEXT, Models
from arzoo.demo.port import HOST, require_port
from arzoo.demo.slots import Slots
from arzoo.generation.generator import Generator

CODES, VECTORS, ORDERED = "runs/gen", "runs/masked", "runs/ordered"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with three models."""
    made = tmp_path_factory.mktemp("demo")
    tiny_models(made / "runs")
    tiny_masked(made / VECTORS, patches(made / "runs/patches"))
    tiny_ordered_generator(made / ORDERED, tiny_prefixes(made / "runs/prefixes"), CLASSES)
    return made


@pytest.fixture
def models(folder, monkeypatch) -> Models:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ARZOO_HOME", str(folder / "named"))
    return Models(CODES, CPU)


def last(model: Generator, request: Request) -> np.ndarray:
    (*_, shown) = drawing(model, request)
    assert shown.done
    return shown.pixels


def half(side: int = 16) -> Image.Image:
    """A mask that draws the lower half anew."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 2 :] = 255
    return Image.fromarray(mask)


def test_models_are_those_of_this_machine(models):
    assert {CODES, VECTORS, ORDERED, "nar_emoji64", "nar_emoji64_text"} <= set(models.names)
    assert "vq_emoji64" not in models.names
    assert models.require(CODES).kinds == [CLASS]
    assert models.require("nar_emoji64_text").kinds == [TEXT]
    assert models.require("ar_ordered_emoji64").kinds == [CLASS, TEXT]
    for name in ("runs/tok", "/etc/passwd", "hf-hub:someone/model", "../gen", ""):
        with pytest.raises(UnknownName, match="unknown model"):
            models.load(name)
    with pytest.raises(ArzooError, match="no_such"):
        Models("no_such", CPU)


def test_models_share_their_networks_and_nothing_else(models):
    first, second = models.load(VECTORS), models.load(VECTORS)
    assert first is not second
    assert first.backbone is second.backbone
    assert models.load(CODES).backbone is not first.backbone


def test_a_model_that_was_trained_on_is_read_anew(models, folder):
    before = models.load(CODES)
    tiny_generator(folder / CODES, folder / "runs/tok", seed=1)
    assert models.load(CODES).backbone is not before.backbone


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (CODES, ["guidance", "temperature", "top_k", "top_p", "greedy"]),
        (
            VECTORS,
            ["guidance", "temperature", "steps", "head_steps", "solver", "max_timestep", "head_window"],
        ),
        (ORDERED, ["guidance", "temperature", "top_k", "top_p", "greedy", "tokens"]),
    ],
)
def test_a_model_has_its_own_knobs(models, name, expected):
    knobs = knobs_of(models.load(name))
    assert list(knobs) == expected
    assert all(knob.label and "default" in knob.info for knob in knobs.values())
    assert all(knob.read(knob.value) is None for knob in knobs.values()), "what is not changed is left out"


def test_ranges_and_defaults_are_those_of_the_model(models):
    knobs = knobs_of(models.load(VECTORS))
    assert (knobs["max_timestep"].value, knobs["steps"].value) == (950, 5)
    assert knobs["temperature"].info.endswith("above 0 and at most 100; default 1")
    assert knobs["head_steps"].info.endswith("a whole number from 1 to 1000; default the head's own")
    assert knobs["solver"].choices == ("ddpm", "ddim", "dpm_solver", "dpm_solver++")
    assert (knobs["guidance"].read(3), knobs["guidance"].read(-0.5), knobs["head_steps"].read(4.0)) == (
        3,
        -0.5,
        4,
    )
    for name, value in [
        ("temperature", 0),
        ("temperature", float("nan")),
        ("head_steps", 0),
        ("head_steps", 2.5),
        ("steps", 17),
        ("max_timestep", 1000),
        ("guidance", "3"),
        ("solver", "euler"),
        ("solver", ["ddim"]),
    ]:
        with pytest.raises(ArzooError, match=TEXTS[name][0].lower() if name == "solver" else TEXTS[name][0]):
            knobs[name].read(value)


def test_a_schedule_is_no_number_of_the_page(models):
    from arzoo.samplers.schedules import over_steps

    model = models.load(CODES)
    model.control = Control(guidance=over_steps(1, 3))
    knob = knobs_of(model)["guidance"]
    assert (knob.value, knob.default) == (None, "over_steps(1, 3)")
    assert knob.read(None) is None


REQUESTS = [
    Request(CODES, CLASS, CLASSES[1], 3),
    Request(CODES, CLASS, CLASSES[0], 2**53 - 1, {"guidance": -0.5, "temperature": 1.25, "top_k": 7, "top_p": 0.875}),
    Request(CODES, CLASS, CLASSES[0], 0, {"greedy": True}),
    Request(VECTORS, CLASS, CLASSES[2], 5, {"steps": 3, "head_steps": 4, "solver": "dpm_solver++", "max_timestep": 90}),
    Request(VECTORS, CLASS, CLASSES[2], 5, {"guidance": 2.0, "head_window": 3}),
    Request(ORDERED, CLASS, CLASSES[1], 1, {"tokens": 5, "temperature": 0.5}),
    Request(VECTORS, CLASS, CLASSES[0], 1, {}, Image.new("RGB", (16, 16), (200, 40, 90)), half()),
    Request(CODES, CLASS, CLASSES[0], 1, {"temperature": 0.7}, Image.new("RGB", (16, 16), (20, 240, 90)), half()),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.model)
def test_the_command_draws_the_very_same_picture(capsys, models, request_):
    pixels = last(models.load(request_.model), request_)
    words = shlex.split(request_.command())
    assert words[:2] == ["arzoo", "generate"]
    if request_.init is not None:
        request_.init.save(INIT)
        request_.mask.save(MASK)
    result = command(capsys, *words[1:], "--overwrite", "--json")
    assert result.status == 0, result.err
    with Image.open(result.json["files"][0]) as drawn:
        assert np.array_equal(np.asarray(drawn.convert("RGB")), pixels)


def test_commands_of_unlike_pictures_write_into_unlike_folders():
    commands = [request.command() for request in REQUESTS]
    assert len({shlex.split(command)[-1] for command in commands}) == len(commands)
    odd = Request("a b", TEXT, 'it\'s $HOME; `ls` && "x"', 1)
    assert shlex.split(odd.command(["--device", "cpu"]))[2:5] == ["a b", "--prompt", odd.subject]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": None}, "the seed None must be a whole number"),
        ({"seed": -1}, "the seed -1 must be"),
        ({"seed": 1.5}, "the seed 1.5 must be"),
        ({"subject": ""}, "choose a class"),
        ({"kind": TEXT, "subject": ""}, "say in the text"),
        ({"kind": TEXT, "subject": "a" * 1001}, "1001 characters"),
        ({"kind": TEXT, "subject": "--out x"}, "cannot begin with '-'"),
        ({"kind": TEXT, "subject": "red heart"}, "this model draws classes"),
        ({"subject": "no such class"}, "unknown class 'no such class'"),
        ({"knobs": {"steps": 4}}, "plan 'next_neighbor'"),
        ({"init": Image.new("RGB", (16, 16)), "mask": Image.new("L", (16, 16), 255)}, "the mask leaves nothing"),
    ],
)  # fmt: skip
def test_wrong_requests_are_explained(models, changes, words):
    request = Request(**{"model": CODES, "kind": CLASS, "subject": CLASSES[0], "seed": 0, **changes})
    with pytest.raises(ArzooError, match=words):
        last(models.load(CODES), request)


def test_pictures_come_step_by_step_with_remarks(models):
    photo = Image.new("RGB", (16, 16), "white")
    upper = Image.fromarray(255 - np.asarray(half()))
    shown = list(drawing(models.load(CODES), Request(CODES, CLASS, CLASSES[0], 0, {}, photo, upper)))
    assert [each.step for each in shown] == [1, 2, 3, 4, 5, 6, 7, 7]
    assert [each.done for each in shown] == [False] * 7 + [True]
    assert all("kept but not seen" in each.remarks[0] for each in shown)
    plain = list(drawing(models.load(CODES), REQUESTS[0]))
    assert (plain[0].pixels == 128).any(), "what is not drawn yet is grey"
    assert not any(each.remarks for each in plain)


def test_two_at_once_are_as_each_alone(models):
    """Masked models draw a random order for every seed, which a shared plan would mix up."""
    requests = [Request(VECTORS, CLASS, CLASSES[i % 3], i) for i in range(4)]
    alone = [last(models.load(VECTORS), request) for request in requests]
    *_, woven = side_by_side([drawing(models.load(VECTORS), request) for request in requests])
    threads, together = [], {}
    for i, request in enumerate(requests):

        def draw(i: int = i, request: Request = request) -> None:
            together[i] = last(models.load(VECTORS), request)

        threads.append(threading.Thread(target=draw))
        threads[-1].start()
    for thread in threads:
        thread.join()
    for i, pixels in enumerate(alone):
        assert np.array_equal(pixels, together[i])
        assert np.array_equal(pixels, woven[i].pixels)
    assert len({pixels.tobytes() for pixels in alone}) == 4


def test_pictures_side_by_side_come_together(models):
    requests = [REQUESTS[0], Request(VECTORS, CLASS, CLASSES[0], 3)]
    for shown in side_by_side([drawing(models.load(request.model), request) for request in requests]):
        shares = [each.step / each.steps if each else 0 for each in shown]
        assert abs(shares[0] - shares[1]) <= 0.21


def test_each_of_two_pictures_has_its_own_time(models, monkeypatch):
    now = itertools.count(0, 0.001)
    monkeypatch.setattr("arzoo.demo.drawing.time.perf_counter", lambda: next(now))
    shown = drawing(models.load(CODES), REQUESTS[0])
    next(shown)
    now = itertools.count(1000, 0.001)  # the other picture is drawn
    (*_, done) = shown
    assert 0 < done.seconds < 1


def test_the_line_is_bounded_and_in_order():
    slots = Slots(at_once=1, waiting=2)
    with slots.place() as first, slots.place() as second:
        with slots.place() as third:
            assert [first.before, second.before, third.before] == [0, 1, 2]
            with pytest.raises(ArzooError, match="1 drawings are at work and 2 wait"), slots.place():
                pass
        assert len(slots) == 2
    with pytest.raises(ZeroDivisionError), slots.place():
        raise ZeroDivisionError
    assert len(slots) == 0


def test_the_extra_that_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    failing(command(capsys, "demo", "--port", free_port()), "pip install 'arzoo[demo]'")


def test_a_port_that_is_taken_is_said_with_one_that_is_free(capsys):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        result = command(capsys, "demo", "--port", port)
        failing(
            result, f"port {port} of this machine is taken", f"http://{HOST}:{port}", "arzoo demo --port "
        )
        free = int(result.err.split("--port ")[1])
        require_port(free)
    failing(command(capsys, "demo", "--port", 0), "--port must be from 1 to 65535, got 0", status=2)
    assert Demo().port == 7860


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
