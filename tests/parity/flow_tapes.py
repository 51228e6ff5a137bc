"""What the recordings of xAR and FlowAR share: replayed draws, settings named by keys, runs through the one loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close
from parity.wrong import check_noticed, shares
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head
from arzoo.core.control import Control, Schedule
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import TokenSpec
from arzoo.models.common.convert import Join, split
from arzoo.models.common.convert_modulated import disarrange
from arzoo.samplers.loop import generate, start
from arzoo.samplers.schedules import anneal, over_steps


class Tape(Draws):
    """Recorded draws in the order of the calls. Samplers that draw for both branches of guidance use the first rows."""

    def __init__(self, batch: int, tape: Sequence[Tensor]) -> None:
        super().__init__([0] * batch)
        self.tape = list(tape)

    def at(self, step: int) -> Draws:
        return self

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        assert self.tape, "more numbers are drawn than were recorded"
        found = self.tape.pop(0)
        assert len(found) in (shape[0], 2 * shape[0])
        assert tuple(found.shape[1:]) == tuple(shape[1:])
        assert found.dtype == dtype
        return found[: shape[0]]


class TrainingDraws(Draws):
    """Recorded training times (B, G) and noise (B, N, C)."""

    def __init__(self, times: Tensor, noise: Tensor) -> None:
        super().__init__([0] * len(times))
        self.times, self.noise = times, noise

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        assert self.times.shape == tuple(shape)
        return self.times

    def logit_normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return self.uniform(shape, dtype)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        assert self.noise.shape == tuple(shape)
        return self.noise


def tape(golden: Golden, prefix: str) -> list[Tensor]:
    """Recorded draws of a run, in order."""
    found = golden.sub(prefix)
    return [found[key] for key in sorted(found)]


def runs(golden: Golden) -> list[str]:
    """Names of the recorded samples."""
    return sorted(key.removesuffix(".tokens") for key in golden if key.endswith(".tokens"))


@dataclass
class Knobs:
    """Sampling settings that a key names: sample_sde_n5_cfg2.7_b1, disa_8to4_cfg4.2."""

    numbers: dict[str, float] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    steps: int | Schedule = 0

    @classmethod
    def of(cls, key: str) -> Knobs:
        knobs = cls()
        for word in key.split("_"):
            if match := re.fullmatch(r"(\d+)to(\d+)", word):
                knobs.steps = anneal(int(match[1]), int(match[2]))
            elif match := re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", word):
                knobs.numbers[match[1]] = float(match[2])
            else:
                knobs.words.add(word)
        knobs.steps = knobs.steps or int(knobs.numbers.pop("n"))
        unknown = (knobs.numbers.keys() | knobs.words) - {
            "sample", "disa", "ode", "sde", "cfg", "b", "high", "guidance", "g",
        }  # fmt: skip
        assert not unknown, f"{key!r} names settings this test does not know: {unknown}"
        return knobs

    def control(self, highest: float, solver: str | None) -> Control:
        """Guidance grows over the steps of the plan and acts up to a time. A scale of 1 is a single branch."""
        scale = self.numbers["cfg"]
        guidance = over_steps(1, scale) if scale != 1 else 1.0
        return Control(guidance=guidance, interval=(0, highest), head_steps=self.steps, solver=solver)


def labels(golden: Golden, info: dict[str, Any], batch: int, variant: str = "") -> Tensor:
    """Labels of the recorded samples: numbers in the settings, or the name of the tensor that holds them."""
    value = info["settings"]["sample labels"]
    if isinstance(value, str):
        return golden[value.replace("<variant>", variant).removeprefix(f"{variant}.")][:batch]
    return torch.tensor(value)[:batch]


def flat(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) as tokens (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


@dataclass
class Model:
    """A converted recording."""

    backbone: Backbone
    heads: list[Head]
    plan: Plan
    table: dict[str, Join]
    order: Tensor

    @property
    def head(self) -> Head:
        return self.heads[0]

    def parts(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "head": self.head}

    def published(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors named as our weights, under their published names and in their published arrangement."""
        return disarrange(split(tensors, self.table), self.order)

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        weights = {
            f"{part}.{n}": w for part, module in self.parts().items() for n, w in module.named_parameters()
        }
        found = torch.autograd.grad(loss, list(weights.values()))
        return self.published(dict(zip(weights, found, strict=True)))

    def generate(self, golden: Golden, key: str, label: Tensor, control: Control) -> Tensor:
        """All tokens, drawn with the recorded numbers; every one of them must be used."""
        draws = Tape(len(label), tape(golden, f"{key}.rng."))
        tokens = TokenSpec(self.plan.layout, channels=self.backbone.config.channels).empty(len(label))
        run = start(self, self.plan, Cond(len(label), label=label), control, tokens, draws)
        for _ in generate(self, run):
            pass
        assert not draws.tape, f"{len(draws.tape)} recorded draws of {key} are left"
        return run.tokens.values


def check_gradients(name: str, model: Model, loss: Tensor, golden: Golden) -> None:
    """Compare recorded gradients, or the norms that are recorded in their place, of every weight."""
    got = model.gradients(loss)
    assert got.keys() == golden.keys()
    for key, want in golden.items():
        value = got[key].norm() if want.dim() == 0 else got[key]
        assert_close(f"{name} gradient of {key}", value, want, GRADIENT_TOLERANCE)


def check_perturbed(
    model: Model, published: Iterable[str], compare: Callable[[], None], change: float = 0.01
) -> None:
    """Show that a comparison notices a change of any published weight, of a size relative to it."""
    found = list(shares(model.parts(), model.table))
    assert len(found) == len(list(published))
    check_noticed(found, compare, change)


def record(modules: dict[str, nn.Module], run: Callable[[], Any]) -> dict[str, Tensor]:
    """Outputs of modules during a run."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, i, out, name=name: found.__setitem__(name, out))
        for name, module in modules.items()
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found
