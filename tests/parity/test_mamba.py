"""Layers and language models of Mamba-1 and Mamba-2 against recordings of the published code."""

from __future__ import annotations

import re

import pytest
import torch
from parity.golden import Golden, assert_close, load
from parity.layers import check_gradients
from parity.wrong import check_noticed, shares
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, fill, merge
from arzoo.models.mamba.convert import layer_sizes, layer_table
from arzoo.models.mamba.layers import Mamba1, Mamba2
from arzoo.models.mamba.network import MambaConfig
from arzoo.samplers.plans.shifted import raster

LAYERS = ["mamba1_block", "mamba1_block_odd", "mamba2_block"]
MODELS = ["mamba1_lm", "mamba2_lm"]
STEP_TOLERANCE = 1e-6
"""Of steps of a layer against its parallel pass, relative to the largest value; both also project, and round then."""


def groups(golden: Golden) -> int:
    """Groups of heads of Mamba-2, which shapes do not tell; 1 unless the file says so."""
    return next((value for key, value in golden.info.items() if key.endswith("ngroups")), 1)


class Layer:
    """One recorded layer, with its weights in our module."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        state = golden.sub("state.")
        self.version = 1 if "x_proj.weight" in state else 2
        self.table = layer_table(self.version, "layer.", "", "in_proj.bias" in state)
        self.module = fill({"layer": self.build(state)}, merge(state, self.table))["layer"]

    def build(self, state: Golden) -> nn.Module:
        if self.version == 1:  # the inner width need not be a multiple of the width
            width, inner = state["out_proj.weight"].shape
            sizes = (
                state["A_log"].shape[1],
                1,
                state["conv1d.weight"].shape[2],
                state["dt_proj.weight"].shape[1],
            )
            return Mamba1(width, *sizes, "in_proj.bias" in state, inner)
        s = layer_sizes(state, "", groups(self.golden))
        names = "width", "state_size", "expand", "kernel", "head_width", "groups", "bias"
        return Mamba2(*(s[name] for name in names))

    @property
    def x(self) -> Tensor:
        return self.golden["x"]

    def steps(self, first: int = 0):
        """Outputs from the token `first` on, one at a time, and the memory before and after each."""
        memory, outs, memories = None, [], []
        if first:
            y, memory = self.module(self.x[:, :first])
            outs.append(y)
        for t in range(first, self.x.shape[1]):
            y, memory = self.module(self.x[:, t : t + 1], memory)
            outs.append(y)
            memories.append(memory)
        return torch.cat(outs, 1), memories


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Layer:
    return Layer(load(request.param))


def published_state(state: Tensor) -> Tensor:
    """Our state in the published order of axes: that of Mamba-1 has channels last."""
    return state.transpose(1, 2) if state.dim() == 3 else state


def test_every_recorded_tensor_is_compared(layer):
    known = r"state\..+|grads\..+|states\.\d+\.\d+|x|y|gx|steps|prefill\d+"
    assert not [key for key in layer.golden if not re.fullmatch(known, key)]


def test_parallel_pass_and_gradients(layer):
    x = layer.x.requires_grad_()
    y, _ = layer.module(x)
    assert_close("y", y, layer.golden["y"])
    check_gradients(layer.module, x, y, layer.table, layer.golden["gx"], layer.golden.sub("grads."))


@torch.no_grad()
def test_steps_and_states(layer):
    outs, memories = layer.steps()
    assert_close("steps", outs, layer.golden["steps"])
    assert_close("steps against the parallel pass", outs, layer.module(layer.x)[0], STEP_TOLERANCE)
    numbers = {
        key: step for key, step in layer.golden.info.items() if re.fullmatch(r"states\.\d+\.0000", key)
    }
    for key, step in numbers.items():
        past, state = memories[step]
        name = key.removesuffix("0000")
        recorded = layer.golden[f"{name}0001"].transpose(1, 2)
        assert_close(f"inputs before step {step}", past, recorded[:, -past.shape[1] :])
        assert_close(f"state after step {step}", published_state(state), layer.golden[f"{name}0002"])


@torch.no_grad()
def test_steps_after_a_prompt(layer):
    found = {key: int(key.removeprefix("prefill")) for key in layer.golden if key.startswith("prefill")}
    for key, length in found.items():
        assert_close(key, layer.steps(length)[0], layer.golden[key])


def test_wrong_weights_fail(layer):
    def compare() -> None:
        assert_close("y", layer.module(layer.x)[0], layer.golden["y"])

    # The steps are small, so their weights must change by more.
    check_noticed(shares({"layer": layer.module}, layer.table), compare, change=0.1)


def model(name: str):
    """A recorded language model over a row of tokens, one more than it was fed."""
    golden = load(name)
    count = golden["ids"].shape[1]
    found = convert_state(golden.sub("state."), grid=(1, count + 1), groups=groups(golden))
    assert found.source == "mamba"
    return golden, found.parts["backbone"], found.parts["head"], raster(found.parts["backbone"].layout)


@pytest.mark.parametrize("name", MODELS)
def test_language_model(name):
    golden, backbone, head, plan = model(name)
    ids = golden["ids"]
    assert {key for key in golden if not key.startswith("state.")} == {"ids", "logits", "decode_logits"}
    layers, width = golden.info["cfg.n_layer"], golden.info["cfg.d_model"]
    assert (backbone.config.depth, backbone.config.width) == (layers, width)
    tokens = Tokens.of(torch.cat([ids, torch.zeros_like(ids[:, :1])], 1))
    cond = Cond(len(ids))
    # The first position, which nothing predicts, is left out.
    assert_close("logits", head.predict(backbone.features(tokens, cond, plan))[:, 1:], golden["logits"])
    with torch.no_grad():
        state = backbone.start(cond, plan, 1)
        steps = [head.predict(backbone.step(state, tokens, k)) for k in range(len(plan))]
    assert_close("logits step by step", torch.cat(steps[1:], 1), golden["decode_logits"])


@pytest.mark.parametrize("layout", ["transformers", "mambapy", "untied output alone", "embedding alone"])
@pytest.mark.parametrize("name", MODELS)
def test_other_layouts_of_the_same_weights(name, layout):
    golden = load(name)
    state = golden.sub("state.")
    other = {
        "transformers": lambda: {key.replace("embedding.", "embeddings."): v for key, v in state.items()},
        "mambapy": lambda: {key.removeprefix("backbone."): v for key, v in state.items()},
        "untied output alone": lambda: {k: v for k, v in state.items() if "embedding" not in k},
        "embedding alone": lambda: {k: v for k, v in state.items() if "lm_head" not in k},
    }[layout]()
    ours, theirs = (
        convert_state(s, "mamba", grid=(4, 4), groups=groups(golden)).parts for s in (state, other)
    )
    for part in ours:
        for key, value in ours[part].state_dict().items():
            assert torch.equal(value, theirs[part].state_dict()[key]), key


SIZES = {
    (24, 768): (129.14, 128.99),
    (48, 1024): (371.52, 368.35),
    (48, 1536): (793.20, 780.16),
    (48, 2048): (1372.18, 1343.76),
    (64, 2560): (2768.35, 2702.60),
}
"""Blocks and width of the published language models, and their millions of parameters as Mamba-1 and Mamba-2."""


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_paper_sizes(size, version):
    depth, width = size
    vocab = 50280 if version == 1 else 50288
    config = MambaConfig(
        depth=depth, width=width, version=version, vocab=vocab, classes=0, positions=False, grid=(1, 1, 2)
    )
    with torch.device("meta"):
        count = sum(p.numel() for p in config.build().parameters()) + width  # and the norm of the output
    assert round(count / 1e6, 2) == SIZES[size][version - 1]
