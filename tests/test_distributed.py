"""Several processes train what one process trains: copies (DDP) and shards (FSDP2), over gloo on the CPU."""

import json

import pytest
import torch
import toy

from arzoo.train import state

MODES = {"copies": {}, "shards": {"sharded": True}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Six steps of one process."""
    out = tmp_path_factory.mktemp("alone")
    toy.train(out, 6, toy.Toy(dropout=0.0), accumulate=2, batch=8)
    return out


def work(out, end, settings):
    toy.train(out, end, toy.Toy(dropout=0.0), accumulate=2, batch=8, **settings)


def numbers(out):
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def near(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-6, rtol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_are_one(alone, tmp_path, mode):
    toy.together(2, work, tmp_path, 6, MODES[mode])
    near(toy.tensors(tmp_path / "state" / "step_0000006"), toy.tensors(alone / "state" / "step_0000006"))
    near(toy.tensors(tmp_path / "checkpoint"), toy.tensors(alone / "checkpoint"))
    for found, wanted in zip(numbers(tmp_path), numbers(alone), strict=True):
        for key in ("loss", "error", "model_gradient_norm", "lr"):
            assert found[key] == pytest.approx(wanted[key], rel=1e-4), key


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_continue_exactly(tmp_path, mode):
    toy.together(2, work, tmp_path / "a", 6, MODES[mode])
    for end in (3, 6):
        toy.together(2, work, tmp_path / "b", end, MODES[mode])
    step = "state/step_0000006"
    assert toy.same(toy.tensors(tmp_path / "a" / step), toy.tensors(tmp_path / "b" / step))
    assert [line["loss"] for line in numbers(tmp_path / "a")] == [
        line["loss"] for line in numbers(tmp_path / "b")
    ]


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    toy.together(2, work, tmp_path, 3, {})
    work(tmp_path, 6, {})
    near(toy.tensors(tmp_path / "state" / "step_0000006"), toy.tensors(alone / "state" / "step_0000006"))
    assert state.trainer(state.latest(tmp_path))["step"] == 6


def two_parts(out, critic):
    engine = toy.train(out, 4, toy.Toy(critic=critic), accumulate=2)
    for name, part in engine.raw.items():
        for parameter in part.parameters():
            both = [torch.empty_like(parameter) for _ in range(2)]
            torch.distributed.all_gather(both, parameter.detach())
            assert torch.equal(both[0], both[1]), name


def test_copies_stay_equal_with_two_parts(tmp_path):
    toy.together(2, two_parts, tmp_path, True)
