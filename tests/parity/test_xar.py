"""xAR, and xAR with annealed head steps, against recordings of the published code."""

from __future__ import annotations

import re

import pytest
import torch
from parity.family import check_keys
from parity.flow_tapes import (
    Knobs,
    Model,
    TrainingDraws,
    check_gradients,
    check_perturbed,
    flat,
    labels,
    record,
    runs,
    tape,
)
from parity.golden import Golden, assert_close, assert_equal, load

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.control import Progress
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, split
from arzoo.models.common.convert_modulated import group_sizes
from arzoo.models.common.modulation import time_index
from arzoo.models.xar.convert import sequence, xar_table
from arzoo.samplers.schedules import anneal
from arzoo.samplers.solvers.flow import flow_solver

KEYS = [
    r"state_dict\..+",
    r"train\.(imgs|cells|t|labels|label_drop|loss|rng\..+|grad\..+)",
    r"train\.act\.(z_proj_ln|time_embed|encoder_block\d+(_attn|_mlp)?|encoder_norm|decoder_norm|pred)",
    r"(sample|disa)_.+\.(rng\..+|tokens)",
    r"time_index_n\d+",
]
SOLVERS = {"sde": "euler-maruyama", "ode": "euler"}


@pytest.fixture(params=["xar", "xar_disa"])
def golden(request) -> Golden:
    return load(request.param)


@pytest.fixture
def model(golden) -> Model:
    arguments = golden.info["ctor"]
    found = convert_state(golden.sub("state_dict."))
    backbone, head = found.parts["backbone"], found.parts["head"]
    config = backbone.config
    expected = [
        arguments[f"{stack}_{what}"] for stack in ("encoder", "decoder") for what in ("depth", "num_heads")
    ]
    assert [
        config.encoder_depth,
        config.stack_heads[0],
        config.decoder_depth,
        config.stack_heads[1],
    ] == expected
    assert config.width == arguments["encoder_embed_dim"] == arguments["decoder_embed_dim"]
    side = arguments["img_size"] // arguments["vae_stride"] // arguments["patch_size"]
    assert config.grid == (1, side, side)
    plan = registry.create("plan", found.plan["name"], layout=config.layout, **found.plan["options"])
    assert len(plan) == arguments["clusters"]
    return Model(backbone, [head], plan, xar_table(config), sequence(plan))


class Training:
    """The recorded training pass: noisy contexts, a time a cell."""

    def __init__(self, golden: Golden, model: Model) -> None:
        self.model, plan, train = model, model.plan, golden.sub("train.")
        self.targets = flat(train["imgs"])
        batch = len(self.targets)
        self.cond = Cond(batch, label=train["labels"], drop=train["label_drop"])
        self.times = train["t"].view(len(plan), batch).T
        recorded = tape(train, "rng.")
        self.uniform, cells = recorded[0], torch.cat(recorded[1:], 1)
        self.noise = torch.zeros_like(cells).index_copy(1, model.order, cells)

    def read(self):
        nothing = torch.zeros(self.targets.shape[:2], dtype=torch.bool)
        return self.model.backbone.features(Tokens.of(self.targets, nothing), self.cond, self.model.plan)

    def velocity(self):
        t = self.times[:, self.model.plan.rank]
        share = t[..., None]
        return self.model.head.predict(self.read(), (1 - share) * self.targets + share * self.noise, t)

    def loss(self):
        return self.model.head.loss(self.read(), self.targets, TrainingDraws(self.times, self.noise)).mean()


@pytest.fixture
def training(golden, model) -> Training:
    return Training(golden, model)


def test_every_recorded_tensor_is_compared(golden):
    check_keys(golden, KEYS)


def test_cells_and_dropped_labels(golden, model, training):
    assert_equal("cells", training.targets[:, model.order], golden["train.cells"].flatten(1, 2))
    assert group_sizes(golden.sub("state_dict.")) == [group.shape[1] for group in model.plan.groups]
    drop = training.uniform < golden.info["ctor"]["label_drop_prob"]
    assert_equal("dropped labels", drop, golden["train.label_drop"])


@pytest.mark.parametrize("part", ["weights", "counts"])
def test_the_inverse_gives_the_file_back(golden, model, part):
    state = golden.sub("state_dict.")
    weights = {f"{p}.{n}": w for p, module in model.parts().items() for n, w in module.state_dict().items()}
    back = model.published(weights)
    buffers = {name for name in state if name == "mask" or ".rope." in name}
    assert back.keys() == state.keys() - buffers
    if part == "counts":
        assert sum(w.numel() for w in back.values()) == golden.info["num_params"]
        return
    for name in back:
        assert_equal(name, back[name], state[name])


def test_activations(golden, model, training):
    backbone = model.backbone
    modules = {
        "z_proj_ln": backbone.input_norm,
        "encoder_norm": backbone.encoder_norm,
        "decoder_norm": backbone.decoder_norm,
        "pred": backbone.output,
    }
    for i, block in enumerate(backbone.encoder):
        name = f"encoder_block{i}"
        modules |= {name: block, f"{name}_attn": block.attention, f"{name}_mlp": block.mlp}
    found = {name: out[:, model.order] for name, out in record(modules, training.velocity).items()}
    times = time_index(golden["train.t"])
    found["time_embed"] = backbone.time(times)[:, None, None]
    for name, want in golden.sub("train.act.").items():
        assert_close(name, found[name], want)


def test_loss_and_gradients(golden, model, training):
    loss = training.loss()
    assert_close("loss", loss, golden["train.loss"])
    check_gradients("xar", model, loss, golden.sub("train.grad."))


def named(pattern: str, what: dict) -> dict:
    """Entries whose names match, by the numbers in the names; skips the calling test when there are none."""
    found = {
        tuple(map(int, m.groups())): value
        for name, value in what.items()
        if (m := re.fullmatch(pattern, name))
    }
    if not found:
        pytest.skip(f"nothing recorded is named {pattern}")
    return found


def test_time_index(golden):
    for (steps,), want in named(r"time_index_n(\d+)", golden).items():
        times = flow_solver("euler-maruyama").times(steps)
        assert_equal(f"time index of {steps} steps", time_index(times[:-1]), want)


def test_samples(golden, model):
    names = runs(golden)
    assert names
    for key in names:
        knobs = Knobs.of(key)
        want = flat(golden[f"{key}.tokens"])
        assert len(want) == knobs.numbers.get("b", len(want))
        (solver,) = knobs.words & SOLVERS.keys()
        control = knobs.control(knobs.numbers.get("high", 1.0), SOLVERS[solver])
        got = model.generate(golden, key, labels(golden, golden.info, len(want)), control)
        assert_close(key, got, want)


def test_annealed_steps(golden):
    for ends, want in named(r"disa_steps_(\d+)_(\d+)", golden.info).items():
        schedule, count = anneal(*ends), len(want)
        assert [schedule(Progress(k, count, k, k + 1, count)) for k in range(count)] == want


def test_wrong_weights_fail(golden, model, training):
    """A change of any weight moves the training pass beyond the tolerance."""

    def compare() -> None:
        with torch.no_grad():
            assert_close("velocity", training.velocity()[:, model.order], golden["train.act.pred"])

    published = [name for name in golden.sub("state_dict.") if name != "mask" and ".rope." not in name]
    check_perturbed(model, published, compare)


@pytest.mark.parametrize(("size", "millions"), [("b", 172.64), ("l", 608.40), ("h", 1186.02)])
def test_paper_sizes(size, millions):
    with torch.device("meta"):
        backbone = registry.create("backbone", f"xar_{size}")
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e6, 2) == millions
    weights = {f"backbone.{name}": w for name, w in backbone.state_dict().items()}
    names = split(weights, xar_table(backbone.config))
    buffers = 1 + 3 * (backbone.config.encoder_depth + backbone.config.decoder_depth)
    assert len(names) + buffers == {"b": 257, "l": 497, "h": 617}[size], "tensors of the published file"
