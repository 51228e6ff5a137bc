"""A training of a few milliseconds a step, and processes that run it: what the tests of the engine work with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path

import safetensors.torch
import torch
from accelerate.state import AcceleratorState
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arzoo.base import files
from arzoo.core.draws import step_rng
from arzoo.train.engine import Engine
from arzoo.train.objective import Objective
from arzoo.train.settings import OptimConfig, RunConfig


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.linear, self.dropout = (
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.Dropout(0.1),
        )

    def forward(self, x):
        return x + self.dropout(torch.tanh(self.linear(self.norm(x))))


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.out = nn.Linear(width, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def repeated_blocks(self):
        return [*self.blocks]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class Toy(Objective):
    """Regression of a sum, with dropout; a critic as second part learns to predict the error."""

    def __init__(self, critic=False, dropout=0.1, poison=None):
        torch.manual_seed(0)
        self.parts: dict[str, nn.Module] = {"model": Net()}
        for module in self.parts["model"].modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        if critic:
            self.parts["critic"] = nn.Linear(8, 1)
        self.poison, self.bad_data = poison, None

    def batch(self, step, numbers):
        return torch.stack([torch.randn(8, generator=step_rng(7, number)) for number in numbers])

    def loss(self, name, parts, batch, step):
        wanted = batch.sum(1, keepdim=True)
        error = parts["model"](batch) - wanted
        if name == "critic":
            return (parts[name](batch) - error.detach().abs()).square().mean(), {}
        if step == self.poison:
            error = error * torch.full_like(error, float("nan"))
        if "critic" in parts:
            error = error + 0.01 * parts["critic"](batch)
        return error.square().mean(), {"error": error.abs().mean()}

    def after_step(self, step, numbers):
        self.parts["model"].seen += 1
        return {}

    def validate(self, model):
        return {"seen": float(model.seen)}

    def preview(self, model, folder, step):
        (folder / f"{step}.txt").write_text(str(float(model.out.weight.detach().sum())))

    def export(self, model, folder, metrics, record, add=None):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), folder / "model.safetensors")

    def summary(self):
        return {}


PACE = {"steps": 20, "batch": 8, "log_every": 1, "preview_every": 20, "save_every": 5}


def train(out, max_steps=None, objective=None, optim=None, resume=None, say=None, **run):
    """Train the toy, or continue; returns the engine."""
    console = Console(file=say, width=1000) if say else Console(quiet=True)
    config = RunConfig(**(PACE | run))
    record = {"recipe": {"run": config.to_dict(), "optim": OptimConfig(**(optim or {})).to_dict()}}
    out.mkdir(parents=True, exist_ok=True)
    settings = OptimConfig(**({"warmup": 3} | (optim or {})))
    engine = Engine(objective or Toy(), config, settings, Path(out), record, console)
    engine.resume(resume)
    engine.fit(max_steps)
    return engine


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors below a folder by file and name."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{path.relative_to(folder)}:{k}": v for path in files for k, v in load_file(path).items()}


def losses(run: Path) -> list[float]:
    """The logged losses of a run."""
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").open()]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def whole_and_in_parts(run, folder: Path, stop: int, steps: int) -> list[dict[str, Tensor]]:
    """Last states of a run that was never stopped, and of one that was stopped and continued, each in one thread.

    Args:
        run: Trains in a folder up to a step, or to the end if it is None.
        folder: Folder of both runs.
        stop: Step at which one is stopped.
        steps: Number of all steps.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, ends in (("whole", (None,)), ("parts", (stop, None))):
            for end in ends:
                run(folder / name, end)
    finally:
        torch.set_num_threads(threads)
    return [tensors(folder / name / "state" / f"step_{steps:07d}") for name in ("whole", "parts")]


def in_process(function, *arguments, **environment) -> int:
    """Start a function in a child process; returns its process number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    signal.alarm(300)  # a deadlock fails the test instead of stopping the suite
    try:
        os.environ.update({k: str(v) for k, v in environment.items()})
        torch.set_num_threads(1)
        AcceleratorState._reset_state(True)
        function(*arguments)
        status = 0
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def together(count, function, *arguments):
    """Run a function in several processes that know of each other; all must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        in_process(function, *arguments, RANK=i, LOCAL_RANK=i, ACCELERATE_USE_CPU="true", **common)
        for i in range(count)
    ]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), statuses


def die_writing(number: int) -> None:
    """Kill this process in the middle of writing its n-th tensor file from now on."""
    left = [number]
    save = safetensors.torch.save_file

    def half(data, path, *rest, **more):
        save(data, path, *rest, **more)
        left[0] -= 1
        if not left[0]:
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    safetensors.torch.save_file = half


def die_renaming(number: int) -> None:
    """Kill this process right after the n-th rename from now on."""
    left = [number]
    replace = os.replace

    def moved(source, target):
        replace(source, target)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    files.os.replace = moved


def copy(source: Path, target: Path) -> Path:
    """A copy of a run."""
    shutil.copytree(source, target)
    return target
