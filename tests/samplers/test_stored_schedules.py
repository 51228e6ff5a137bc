"""Knobs as plain data: schedules that a checkpoint can store, and what is refused."""

import json

import pytest

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.index import control_of
from arzoo.core.control import Control, Progress
from arzoo.samplers import schedules
from arzoo.samplers.schedules import control_from_data, control_to_data

RUN = [Progress(k, 5, 2 * k, 2 * k + 2, 10) for k in range(5)]
STORED = {
    "constant": schedules.constant(2.0),
    "over_steps": schedules.over_steps(1.0, 3.0),
    "cosine_over_steps": schedules.cosine_over_steps(1.0, 3.0),
    "over_tokens": schedules.over_tokens(1, 2.5),
    "rising": schedules.rising(5.5),
    "power_cosine": schedules.power_cosine(6.9, 3.0),
    "falling": schedules.falling(9.5, soften=True),
    "until_step": schedules.until_step(3.0, 2),
    "until_tokens": schedules.until_tokens(3.0, last=4),
    "within": schedules.within(schedules.over_tokens(1.0, 3.0), 0.2, 0.7),
    "anneal": schedules.anneal(50, 5, "two-stage"),
    "by_stage": schedules.by_stage(100, schedules.anneal(50, 5)),
}


def test_all_schedules_are_tried_here():
    assert STORED.keys() == schedules.SCHEDULES.keys()


@pytest.mark.parametrize("name", STORED)
def test_a_schedule_comes_back(name):
    data = json.loads(json.dumps(STORED[name].to_dict()))
    assert data["schedule"] == name
    found = schedules.from_dict(data)
    assert found == STORED[name]
    assert [found(at) for at in RUN] == [STORED[name](at) for at in RUN]


def test_knobs_come_back():
    control = Control(
        guidance=STORED["within"], temperature=schedules.over_steps(1.1, 0.9), head_steps=STORED["anneal"],
        max_timestep=950, interval=(0.0, 0.8), solver="ddim", top_k=schedules.constant(5),
    )  # fmt: skip
    data = json.loads(json.dumps(control_to_data(control)))
    assert control_from_data(data) == control
    assert control_from_data({}) == Control()
    assert [control_from_data(data).at(at) for at in RUN] == [control.at(at) for at in RUN]
    assert control.at(RUN[0]).head_steps == 50


def test_schedules_of_whole_numbers_come_back():
    control = Control(top_k=schedules.over_steps(50, 5), head_steps=schedules.over_tokens(9, 2))
    found = control_from_data(json.loads(json.dumps(control_to_data(control))))
    assert [found.at(at) for at in RUN] == [control.at(at) for at in RUN]


def test_a_schedule_of_ones_own_cannot_be_stored():
    with pytest.raises(ArzooError, match=r"is code and cannot be stored.*over_tokens"):
        control_to_data(Control(guidance=lambda progress: 2.0))


@pytest.mark.parametrize(
    ("knobs", "error", "words"),
    [
        ({"gudance": 2.0}, UnknownName, "Did you mean 'guidance'"),
        ({"guidance": {"schedule": "over_token", "first": 1, "last": 2}}, UnknownName, "'over_tokens'"),
        ({"guidance": {"schedule": "over_tokens", "fisrt_": 1, "last": 2}}, UnknownName, "'first'"),
        ({"guidance": {"schedule": "over_tokens", "first": 1}}, ArzooError, "needs last"),
        ({"guidance": {"schedule": "over_tokens", "first": "1", "last": 2}}, ArzooError, "'first' must be"),
        ({"guidance": {"schedule": "constant", "value": float("inf")}}, ArzooError, "finite, got inf"),
        ({"guidance": {"schedule": "anneal", "early": 5, "late": 0}}, ArzooError, "annealed to 0"),
        ({"guidance": {"first": 1}}, UnknownName, "unknown schedule"),
        ({"max_timestep": {"schedule": "constant", "value": 900}}, ArzooError, "'max_timestep' cannot"),
        ({"temperature": True}, ArzooError, "'temperature' cannot be True"),
        ({"top_k": 5.5}, ArzooError, "'top_k' cannot"),
    ],
)  # fmt: skip
def test_what_is_no_knob_is_refused(tmp_path, knobs, error, words):
    with pytest.raises(error, match=words):
        control_from_data(knobs)
    with pytest.raises(ArzooError, match=r"model_index\.json"):
        control_of({"controls": knobs}, tmp_path)
