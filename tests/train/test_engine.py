"""The training loop: what a step is, and how it stops when something is wrong."""

import io
import json
import math
import re
import types
from functools import partial

import pytest
import torch
import toy
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, on_main_process
from rich.console import Console
from torch import nn
from toy import losses

import arzoo.train.engine as engine_module
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.layout import Grid
from arzoo.samplers.plans.shifted import next_neighbor
from arzoo.train.devices import checkpoint_blocks, make_accelerator
from arzoo.train.engine import Engine
from arzoo.train.run.health import UpdateRatio, entropy, first_bad_module, loss_by_step
from arzoo.train.run.lineage import differences
from arzoo.train.run.log import chosen_trackers
from arzoo.train.run.report import TimeLeft, run_facts
from arzoo.train.settings import OptimConfig, RunConfig


def weights(engine):
    return {k: v.clone() for k, v in engine.raw["model"].state_dict().items()}


def close(a, b):
    return all(torch.allclose(a[k].float(), b[k].float(), atol=1e-6) for k in a)


def test_micro_batches_add_up_to_the_batch(tmp_path):
    whole = toy.train(tmp_path / "a", 6, toy.Toy(dropout=0.0))
    cut = toy.train(tmp_path / "b", 6, toy.Toy(dropout=0.0), accumulate=4)
    assert close(weights(whole), weights(cut))
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=1e-5)
    assert losses(tmp_path / "a")[-1] != losses(tmp_path / "a")[0]


def test_lines_are_aligned_and_the_first_step_has_one(tmp_path):
    shown = io.StringIO()
    toy.train(tmp_path, 12, toy.Toy(dropout=0.0), say=shown, log_every=5, steps=200, save_every=1000)
    lines = [line for line in shown.getvalue().splitlines() if line.startswith("step ")]
    assert [line[:8] for line in lines] == ["step   1", "step   5", "step  10", "step  12"]
    for word in ("pictures/s", "loss", "lr", "model_gradient_norm"):
        assert len({line.index(word) for line in lines}) == 1, lines
    logged = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert logged == [5, 10, 12], "the line of the first step is only shown"


def test_the_speed_of_a_line_is_that_since_the_line_before(tmp_path, monkeypatch):
    now = iter(
        [i for step in range(5) for i in (step * 4, step * 4 + 2)] + [100 + i / 4 for i in range(1000)]
    )
    monkeypatch.setattr(engine_module, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    toy.train(tmp_path, 10, toy.Toy(dropout=0.0), log_every=5, batch=8)
    speeds = [json.loads(line)["samples_per_second"] for line in (tmp_path / "log.jsonl").open()]
    assert speeds == [4.0, 32.0], "8 pictures in 2 s a step, then in 1/4 s"


def test_first_step_is_plain_adamw_with_clipping_and_warm_up(tmp_path):
    objective = toy.Toy(dropout=0.0)
    reference = toy.Toy(dropout=0.0)
    plain = torch.optim.AdamW(
        reference.parts["model"].parameters(), lr=1e-3 / 3, betas=(0.9, 0.95), weight_decay=0
    )
    loss, _ = reference.loss("model", reference.parts, reference.batch(0, range(8)), 0)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(reference.parts["model"].parameters(), 0.1)
    plain.step()
    toy.train(tmp_path, 1, objective, {"weight_decay": 0.0, "clip": 0.1})
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["model_gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert line["lr"] == pytest.approx(1e-3 / 3)
    for name, value in reference.parts["model"].named_parameters():
        assert torch.equal(value, dict(objective.parts["model"].named_parameters())[name])


def test_a_part_never_receives_the_gradients_of_another(tmp_path):
    both = toy.Toy(critic=True, dropout=0.0)
    toy.train(tmp_path, 4, both, accumulate=2)
    alone = toy.Toy(critic=True, dropout=0.0)
    alone.parts["model"].load_state_dict(both.parts["model"].state_dict())
    alone.parts["critic"].load_state_dict(both.parts["critic"].state_dict())
    pace = RunConfig(**toy.PACE)
    engine = Engine(alone, pace, OptimConfig(), tmp_path, {"recipe": {}}, Console(quiet=True))
    with engine._alone("model"):
        loss, _ = alone.loss("model", alone.parts, alone.batch(0, range(8)), 0)
        loss.backward()
    assert all(p.grad is None for p in alone.parts["critic"].parameters())
    assert all(p.requires_grad for p in alone.parts["critic"].parameters())


def test_average_follows_with_warm_up(tmp_path):
    still = toy.train(tmp_path / "a", 8, optim={"ema": 0.0})
    moving = toy.train(tmp_path / "b", 8, optim={"ema": 0.9})
    assert all(
        torch.equal(a, b)
        for a, b in zip(still.model.state_dict().values(), weights(still).values(), strict=True)
    )
    assert not torch.equal(moving.model.out.weight, moving.raw["model"].out.weight)
    assert torch.equal(weights(still)["out.weight"], weights(moving)["out.weight"])


def test_checkpointing_of_activations_changes_memory_only(tmp_path):
    net = toy.Net()
    saved = []

    def count():
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
            net(torch.randn(4, 8)).sum()
        total = sum(saved)
        saved.clear()
        return total

    kept = count()
    checkpoint_blocks(net)
    assert count() < kept
    plain = toy.train(tmp_path / "a", 5)
    recomputed = toy.train(tmp_path / "b", 5, checkpointing=True)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(recomputed).values(), strict=True)
    )
    with pytest.raises(ArzooError, match="Linear names none"):
        checkpoint_blocks(nn.Linear(2, 2))


def test_bf16_computes_in_half_and_keeps_weights_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr("arzoo.train.devices.bfloat_units", lambda: True)
    engine = toy.train(tmp_path / "a", 3, precision="bf16")
    assert engine.raw["model"].out.weight.dtype == torch.float32
    toy.train(tmp_path / "b", 3)
    assert losses(tmp_path / "a") != losses(tmp_path / "b")
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=0.05)


def test_bf16_is_computed_as_fp32_where_it_would_be_emulated(tmp_path, monkeypatch):
    monkeypatch.setattr("arzoo.train.devices.bfloat_units", lambda: False)
    toy.train(tmp_path / "a", 3, precision="bf16")
    toy.train(tmp_path / "b", 3)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    facts = run_facts({"model": nn.Linear(2, 2)}, RunConfig(precision="bf16"), OptimConfig(), 1, tmp_path)
    assert "fp32 (this processor has no instructions for bf16)" in facts["steps"]


def test_compiled_modules_train_alike_and_keep_their_names(tmp_path, monkeypatch):
    plain = toy.train(tmp_path / "a", 4, toy.Toy(dropout=0.0))  # compiled layers drop in their own way
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr("arzoo.train.engine.torch.compile", partial(torch.compile, backend=backend))
    compiled = toy.train(tmp_path / "b", 4, toy.Toy(dropout=0.0), compile=True)
    assert seen, "something was compiled"
    assert all(torch.equal(a, weights(compiled)[name]) for name, a in weights(plain).items())
    step = "state/step_0000004"
    assert toy.same(toy.tensors(tmp_path / "a" / step), toy.tensors(tmp_path / "b" / step))


def test_batches_must_divide():
    with pytest.raises(ArzooError, match="divisible by its accumulation"):
        RunConfig(batch=9, accumulate=2)
    with pytest.raises(ArzooError, match=r"run\.keep must be at least 1, got 0"):
        RunConfig(keep=0)
    with pytest.raises(ArzooError, match="there is one"):
        make_accelerator(RunConfig(sharded=True), toy.Net())
    with pytest.raises(ArzooError, match="Linear names none"):
        make_accelerator(RunConfig(sharded=True), nn.Linear(2, 2))


def test_a_value_that_is_not_finite_stops_before_the_step_and_is_named(tmp_path):
    objective = toy.Toy(poison=6)
    with pytest.raises(
        ArzooError, match=r"not finite in step 7; .* the loss, computed from finite outputs .*step_0000005"
    ):
        toy.train(tmp_path, None, objective)
    assert all(torch.isfinite(v).all() for v in objective.parts["model"].state_dict().values())
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()] == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "checkpoint").exists()


def test_without_a_state_there_is_nothing_to_go_on_from(tmp_path):
    with pytest.raises(
        ArzooError, match=r"No state was saved yet\. Start again .* --out NEW --optim"
    ) as found:
        toy.train(tmp_path, None, toy.Toy(poison=2))
    assert "--resume" not in str(found.value)


def test_the_first_bad_module_is_found():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    def fresh(inside=None):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), inside or nn.Identity(), nn.Linear(4, 1))
        return net, lambda: net(torch.ones(2, 4)).sum()

    net, forward = fresh(Log())
    assert first_bad_module(net, forward) == "the output of '1' (Log)"
    net, forward = fresh(Root())
    net[0].weight.data.zero_()
    net[0].bias.data.zero_()
    assert "the gradient of '0'" in first_bad_module(net, forward), "the square root has no slope at 0"
    net, forward = fresh()
    net[2].weight.data[0, 1] = math.inf
    assert first_bad_module(net, forward) == "the weight '2.weight'"
    net, forward = fresh()
    assert first_bad_module(net, forward) is None
    assert "the input of '0'" in first_bad_module(net, lambda: net(torch.full((1, 4), math.nan)).sum())


def test_bad_weights_are_never_saved(tmp_path):
    class Broken(toy.Toy):
        def after_step(self, step, numbers):
            if step == 9:
                self.parts["model"].blocks[1].linear.weight.data[0, 0] = math.nan
            return {}

    with pytest.raises(ArzooError, match=r"the weight 'blocks\.1\.linear\.weight' of 'model'"):
        toy.train(tmp_path, None, Broken())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step_0000005"]


def test_start_tells_cost_and_time(tmp_path):
    said = io.StringIO()
    engine = toy.train(tmp_path, 8, say=said)
    linear = (
        2 * 8 * 8 * 8
    )  # two products of a batch of 8, forward; twice that backward, but for the input of the first
    assert engine.flops == pytest.approx(3 * (2 * linear + 2 * 8 * 8), rel=0.2)
    assert "FLOPs per step" in said.getvalue()
    assert "for 2 steps" in said.getvalue()
    lefts = re.findall(r"^step .*  left (\S+)", said.getvalue(), re.MULTILINE)
    assert [left != "-" for left in lefts] == [False, *[True] * 6, False], (
        "each line but the first and the last"
    )


def test_time_left(monkeypatch):
    now = iter([100.0, 110.0, 1300.0, 1301.0])
    monkeypatch.setattr("arzoo.train.run.report.time.perf_counter", lambda: next(now))
    clock = TimeLeft(50)
    assert [clock.after(step) for step in (11, 12, 41, 50)] == ["", "6 min", "6 min", ""]


def test_update_ratio():
    net = nn.Linear(3, 1, bias=False)
    net.weight.data.fill_(2.0)
    ratio = UpdateRatio(net)
    net.weight.data.add_(0.02)
    assert float(ratio.measure()) == pytest.approx(0.01, rel=1e-4)


def test_loss_by_step_of_the_plan():
    plan = next_neighbor(Grid(1, 3, 3))
    loss = plan.rank.float().expand(2, -1) + torch.tensor([[0.0], [2.0]])
    assert loss_by_step(loss, plan).tolist() == pytest.approx([1, 2, 3, 4, 5])
    long = next_neighbor(Grid(1, 16, 16))
    found = loss_by_step(long.rank.float()[None], long)
    assert len(found) == 16
    assert (found.diff() > 0).all()
    assert float(entropy(torch.zeros(1, 8))) == pytest.approx(math.log(8))


def test_differences_of_settings():
    old = {"a": 1, "run": {"seed": 0, "steps": 5}}
    assert differences(old, {"a": 1, "run": {"seed": 1, "steps": 5, "new": 3}}) == ["run.seed"]


def test_trackers(tmp_path, monkeypatch):
    seen = []

    class Memory(GeneralTracker):
        name, requires_logging_directory = "memory", False

        def __init__(self, run_name, **kwargs):
            super().__init__()
            self.run_name = run_name

        @property
        def tracker(self):
            return self

        @on_main_process
        def store_init_configuration(self, values):
            seen.append(values)

        @on_main_process
        def log(self, values, step=None, **kwargs):
            seen.append((step, values))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "memory", Memory)

    class Lists(toy.Toy):
        def validate(self, model):
            return {"each": [1.0, 2.0]}

    toy.train(tmp_path, 2, Lists(), trackers=("memory",))
    assert seen[0]["run.batch"] == 8
    assert seen[1][0] == 1
    assert seen[2][1]["loss"] == losses(tmp_path)[1]
    assert (seen[2][1]["each/00"], seen[2][1]["each/01"]) == (1.0, 2.0)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["each"] == [1.0, 2.0]
    with pytest.raises(UnknownName, match="tensorboard"):
        chosen_trackers(("tensorbord",))
