"""TokenUnify against recordings of the published code: its layer, its network, and pre-training with a next token."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from parity.family import check_keys
from parity.golden import Golden, assert_close, assert_equal, load
from parity.layers import check_gradients
from parity.wrong import check_noticed, fails, shares

from arzoo.models.common.convert import convert_state, fill, merge
from arzoo.models.tokenunify.convert import layer_table, to_tokenunify, tokenunify_table
from arzoo.models.tokenunify.layers import MambaLayer
from arzoo.models.tokenunify.network import SegMamba
from arzoo.models.tokenunify.pretraining import Prediction, hide, later_tokens, predict, to_tokens, token_at

LAYER = "tokenunify_mamba_layer_v3"
SEGMENTER = "tokenunify_segmamba_tiny"
AUTOREGRESSIVE = "tokenunify_segmamba_ar_tiny_mode1"
CHANGE = 1.0
"""Size of a wrong weight's error relative to the weight: rates and steps are small, and norms follow most of them."""


def fact(golden: Golden, name: str, default: Any = None) -> Any:
    """A setting of a recording."""
    return golden.info["meta"].get(name, default)


class Layer:
    """The recorded layer, with its weights in our module."""

    def __init__(self) -> None:
        self.golden = golden = load(LAYER)
        state = golden.sub("state/")
        width, inner = state["mamba.out_proj.weight"].shape
        self.table = layer_table("layer.", "")
        module = MambaLayer(
            width,
            state["mamba.A_log"].shape[1],
            inner // width,
            state["mamba.conv1d.weight"].shape[2],
            state["mamba.dt_proj.weight"].shape[1],
            fact(golden, "nslices", 5),
        )
        self.module = fill({"layer": module}, merge(state, self.table))["layer"]


@pytest.fixture
def layer() -> Layer:
    return Layer()


def test_every_recorded_tensor_of_the_layer_is_compared(layer):
    check_keys(layer.golden, [r"state/.+", r"grads/.+", "x", "y", "gx"])


def test_layer_and_gradients(layer):
    x = layer.golden["x"].requires_grad_()
    y = layer.module(x)
    assert_close("y", y, layer.golden["y"])
    check_gradients(layer.module, x, y, layer.table, layer.golden["gx"], layer.golden.sub("grads/"))


@torch.no_grad()
def test_wrong_weights_of_the_layer_fail(layer):
    def compare() -> None:
        assert_close("y", layer.module(layer.golden["x"]), layer.golden["y"])

    check_noticed(shares({"layer": layer.module}, layer.table), compare, CHANGE)


@torch.no_grad()
def test_other_scans_fail(layer):
    """A residual, other weights of a scan, and another number of parts are noticed."""
    mixer, branches = layer.module.mixer, ("forth", "back", "across")

    def noticed(residual: float = 0) -> bool:
        y = layer.module(layer.golden["x"]) + residual * layer.golden["x"]
        return fails(lambda: assert_close("y", y, layer.golden["y"]))

    assert noticed(residual=1)
    assert not noticed()
    for name, other in itertools.permutations(branches, 2):
        branch = getattr(mixer, name)
        setattr(mixer, name, getattr(mixer, other))
        assert noticed(), f"{other} for {name}"
        setattr(mixer, name, branch)
    mixer.slices = 1
    assert noticed()


class Network:
    """A recorded network, with its weights in our modules."""

    def __init__(self, name: str) -> None:
        self.golden = golden = load(name)
        self.state = golden.sub("state/")
        unseen: dict[str, Any] = {"slices": fact(golden, "cfg/nslices", 5)}
        if "next_token" in golden:
            unseen |= {"crop": tuple(golden["x"].shape[2:]), "patch": tuple(golden["next_token"].shape[2:])}
        conversion = convert_state(self.state, **unseen)
        assert conversion.source == "tokenunify"
        self.module = conversion.parts["segmenter"]
        assert isinstance(self.module, SegMamba)
        self.table = tokenunify_table(self.module.config)


@pytest.fixture
def segmenter() -> Network:
    return Network(SEGMENTER)


@pytest.fixture
def autoregressive() -> Network:
    return Network(AUTOREGRESSIVE)


@pytest.mark.parametrize("name", [SEGMENTER, AUTOREGRESSIVE])
def test_sizes_are_the_recorded_ones(name):
    network = Network(name)
    config, golden = network.module.config, network.golden
    recorded = {
        "depths": [*config.depths],
        "feat_size": [*config.widths],
        "hidden_size": config.hidden,
        "kernel_size": [*config.kernel],
        "out_chans": config.out_channels,
    }
    assert recorded == {key: fact(golden, f"cfg/{key}") for key in recorded}
    assert (config.resampler is not None) == ("next_token" in golden)


@pytest.mark.parametrize("name", [SEGMENTER, AUTOREGRESSIVE])
def test_the_converter_is_its_own_inverse(name):
    network = Network(name)
    back = to_tokenunify(network.module)
    assert back.keys() == network.state.keys()
    for key, value in network.state.items():
        assert_equal(key, back[key], value)


def test_every_recorded_tensor_of_the_segmenter_is_compared(segmenter):
    # The target of `mse` was not recorded.
    check_keys(segmenter.golden, [r"state/.+", r"feats/\d+", "x", "y", "mse"])


@torch.no_grad()
def test_stages_and_affinities(segmenter):
    golden, module = segmenter.golden, segmenter.module
    sides = module.side_outputs(golden["x"])
    recorded = golden.sub("feats/")
    assert {str(i) for i in range(len(sides))} == recorded.keys()
    for i, side in enumerate(sides):
        assert_close(f"side output {i}", side, recorded[str(i)])
    assert_close("affinities", module(golden["x"]), golden["y"])


@torch.no_grad()
def test_a_sigmoid_more_or_less_fails(segmenter):
    logits = segmenter.module.logits(segmenter.golden["x"])
    for twin in (logits, logits.sigmoid().sigmoid()):
        assert fails(lambda twin=twin: assert_close("affinities", twin, segmenter.golden["y"]))


@torch.no_grad()
def test_wrong_weights_of_the_segmenter_fail(segmenter):
    """One weight of each kind; those of Mamba layers have a test of their own."""
    golden, module = segmenter.golden, segmenter.module
    # Biases in front of an instance norm do not count.
    void = re.compile(r"vit\.stages|vit\.gscs.*bias")
    kinds = {
        re.sub(r"(?<=\.)\d+(?=\.)|(?<=coder)\d+", "#", name): (name, weight)
        for name, weight in shares({"segmenter": module}, segmenter.table)
        if not void.match(name)
    }
    assert len(kinds) > 20

    def compare() -> None:
        sides = module.side_outputs(golden["x"])
        for i, side in enumerate(sides):
            assert_close(f"side output {i}", side, golden[f"feats/{i}"])
        assert_close("affinities", module.decode(golden["x"], sides).sigmoid(), golden["y"])

    check_noticed(kinds.values(), compare, CHANGE)


def test_every_recorded_tensor_of_pretraining_is_compared(autoregressive):
    compared = [r"state/.+", r"pred/[01]", "x", "gt", "next_token", "loss", "rec"]
    check_keys(autoregressive.golden, compared)


def test_hidden_tokens(autoregressive):
    golden, patch = autoregressive.golden, autoregressive.module.config.resampler.patch
    x, volume = golden["x"], golden["gt"]
    cut = torch.as_tensor(fact(golden, "k")).expand(len(x))
    count = to_tokens(volume, patch).shape[1]
    # The recorded input is the noise where tokens are hidden, so it must come out as it is.
    assert_equal("x", hide(volume, later_tokens(cut, count), patch, x), x)
    # Which are hidden is seen, too: noise is never the volume.
    differs = (to_tokens(x, patch) != to_tokens(volume, patch)).any(-1)
    assert_equal("hidden tokens", later_tokens(cut, count), differs)
    assert_equal("next token", token_at(volume, cut, patch), golden["next_token"])


@torch.no_grad()
def test_predictions_and_losses(autoregressive):
    golden = autoregressive.golden
    prediction = predict(autoregressive.module, golden["x"])
    assert_close("volume", prediction.volume, golden["pred/0"])
    assert_close("rec", prediction.volume, golden["rec"])
    assert_close("token", prediction.token, golden["pred/1"])
    mode = fact(golden, "cfg/auto_mode")
    for what in (prediction, Prediction(golden["pred/0"], golden["pred/1"])):
        loss = what.loss(golden["gt"], golden["next_token"], mode).mean()
        assert_close("loss", loss, golden["loss"])
    other = prediction.loss(golden["gt"], golden["next_token"], 1 - mode).mean()
    assert fails(lambda: assert_close("loss of the other mode", other, golden["loss"]))


@torch.no_grad()
def test_wrong_weights_of_the_next_token_fail(autoregressive):
    golden, module = autoregressive.golden, autoregressive.module
    logits = module.logits(golden["x"])
    own = [
        pair
        for pair in shares({"segmenter": module}, autoregressive.table)
        if pair[0].startswith("preciever")
    ]
    assert own

    def compare() -> None:
        assert_close("token", module.resampler(logits), golden["pred/1"])

    check_noticed(own, compare, CHANGE)
