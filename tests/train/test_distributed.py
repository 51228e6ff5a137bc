"""Several processes train what one process trains: copies (DDP) and shards (FSDP2), over gloo on the CPU."""

import json
import os

import pytest
import torch
import toy
from command import ten_pictures, tiny_tokenizer

from arzoo.base import registry
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.train.build import run
from arzoo.train.devices import make_accelerator, processes
from arzoo.train.recipe import load_recipe
from arzoo.train.run import state
from arzoo.train.settings import RunConfig

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


def counted(told):
    """Without the variable that tells accelerate to use the CPU."""
    if not told:
        del os.environ["ACCELERATE_USE_CPU"]
    group = processes()
    assert (group.num_processes, group.device.type) == (2, "cpu")
    assert processes().process_index == int(os.environ["RANK"])
    accelerator = make_accelerator(RunConfig(batch=2), toy.Net())
    assert (accelerator.num_processes, accelerator.is_main_process) == (2, os.environ["RANK"] == "0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="processes take the accelerators")
@pytest.mark.parametrize("told", [True, False])
def test_processes_of_a_machine_without_accelerators_are_one_run(told):
    toy.together(2, counted, told)


def train_generator(out, tokenizer):
    changes = {"tokenizer": str(tokenizer), "data": "ten", "model": {"width": 32, "depth": 1}, "variants": 1}
    pace = {"steps": 2, "batch": 4, "threads": 1, "log_every": 1, "preview_every": 9, "save_every": 9}
    run(load_recipe("nar_emoji64", {**changes, "optim": {"warmup": 1}, "run": pace}), out)


def test_two_processes_encode_once_and_train_a_generator(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    tokenizer = tiny_tokenizer(tmp_path / "tok")
    toy.together(2, train_generator, tmp_path / "run", tokenizer)
    assert [line["step"] for line in numbers(tmp_path / "run")] == [1, 2]
    training = open_checkpoint(tmp_path / "run" / "checkpoint").index["training"]
    assert training["hardware"].endswith("2 processes")
    assert len(list((tmp_path / "cache" / "codes").iterdir())) == 2, "one cache a split"


def two_parts(out, critic):
    engine = toy.train(out, 4, toy.Toy(critic=critic), accumulate=2)
    for name, part in engine.raw.items():
        for parameter in part.parameters():
            both = [torch.empty_like(parameter) for _ in range(2)]
            torch.distributed.all_gather(both, parameter.detach())
            assert torch.equal(both[0], both[1]), name


def test_copies_stay_equal_with_two_parts(tmp_path):
    toy.together(2, two_parts, tmp_path, True)
