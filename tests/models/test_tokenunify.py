"""SegMamba and its pre-training: sizes, masks, training, checkpoints, and what they refuse."""

from __future__ import annotations

import argparse

import pytest
import torch
from command import command, failing

import arzoo
from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.draws import Draws
from arzoo.models.common.convert import convert_state
from arzoo.models.tokenunify.convert import to_tokenunify
from arzoo.models.tokenunify.layers import TriMamba, _interleave
from arzoo.models.tokenunify.network import ResamplerConfig, SegMamba, SegMambaConfig
from arzoo.models.tokenunify.pretraining import (
    hide,
    later_tokens,
    predict,
    random_cuts,
    random_tokens,
    squared_error,
    to_tokens,
    to_volume,
    token_at,
)
from arzoo.train.optim import undecayed

SIDES, PATCH = (4, 20, 20), (2, 4, 5)
HEAD = ResamplerConfig(crop=SIDES, patch=PATCH, width=3)
CONFIG = SegMambaConfig(
    widths=(4, 6), depths=(1, 2), hidden=5, kernel=(1, 3, 3), out_channels=1, resampler=HEAD
)
TOKENS = 2 * 5 * 4
MILLIONS = {
    "base": 28.296,
    "small": 112.534,
    "mid": 206.577,
    "large": 506.567,
    "huge": 1008.909,
    "ar": 17.284,
}
"""Parameters of the published sizes."""


def volumes(batch: int = 2) -> torch.Tensor:
    """Smooth volumes in [0, 1]."""
    z, y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in SIDES), indexing="ij")
    rows = [0.5 + 0.4 * torch.sin(3 * x + (2 + i) * y + z + i) for i in range(batch)]
    return torch.stack(rows)[:, None]


@pytest.fixture
def network() -> SegMamba:
    torch.manual_seed(0)
    return CONFIG.build().eval()


@pytest.mark.parametrize("size", MILLIONS)
def test_published_sizes(size):
    with torch.device("meta"):
        built = registry.create("segmenter", f"segmamba_{size}")
    assert round(sum(p.numel() for p in built.parameters()) / 1e6, 3) == MILLIONS[size]


def test_networks_are_created_by_name():
    assert "segmamba_tiny" in arzoo.list_models("segmamba_*")
    tiny = arzoo.create("segmamba_tiny", out_channels=2)
    assert tiny(torch.rand(1, 1, 8, 40, 40)).shape == (1, 2, 8, 40, 40)


def test_the_scan_across_slices_takes_turns():
    x = torch.arange(12.0)[None, :, None]
    across = _interleave(x, 3)
    assert all(across[0, 3 * t + s, 0] == 4 * s + t for s in range(3) for t in range(4))
    assert torch.equal(_interleave(across, 4), x)


def test_each_scan_sees_its_side(network):
    """The layer as a whole sees every voxel; without the scans back and across, only those before."""
    layer = TriMamba(width=4, slices=2)
    x = torch.randn(1, 6, 4)
    changed = x.clone()
    changed[:, 4] += 1

    def moved() -> list[int]:
        with torch.no_grad():
            moves = (layer(x) - layer(changed)).abs().amax(-1)[0]
        return (moves > 1e-7).nonzero()[:, 0].tolist()

    assert moved() == [0, 1, 2, 3, 4, 5]
    for branch in (layer.back, layer.across):
        branch.D.data.zero_()
        branch.x_proj.weight.data.zero_()
    assert moved() == [4, 5]


def test_steps_begin_as_published(network):
    """Spread over orders of magnitude forward, and as in any linear layer in the other scans."""
    mixer = network.stages[1].layers[0].mixer
    assert mixer.forth.dt_proj.bias.max() < 0
    assert all(branch.dt_proj.bias.max() > 0 for branch in (mixer.back, mixer.across))
    assert not any("A_log" in name for name in undecayed(network)), "rates are decayed"


@torch.no_grad()
def test_predictions_are_the_same_again_and_alone(network):
    x = volumes(3)
    both = predict(network, x)
    for again, first in zip(predict(network, x), both, strict=True):
        assert torch.equal(again, first)
    assert both.volume.shape == x.shape
    assert both.token.shape == (3, 1, *PATCH)
    for row in range(3):
        for alone, together in zip(predict(network, x[row : row + 1]), both, strict=True):
            torch.testing.assert_close(alone, together[row : row + 1])
    torch.testing.assert_close(network(x), both.volume)


def test_tokens_are_patches_in_raster_order():
    x = torch.rand(2, 3, *SIDES)
    tokens = to_tokens(x, PATCH)
    assert tokens.shape == (2, TOKENS, 3 * 2 * 4 * 5)
    assert torch.equal(to_volume(tokens, SIDES, PATCH), x)
    assert torch.equal(tokens[0, 1].view(3, *PATCH), x[0, :, :2, :4, 5:10]), "x is fastest"
    assert torch.equal(tokens[0, 20].view(3, *PATCH), x[0, :, 2:, :4, :5]), "z is slowest"
    cut = torch.tensor([1, 20])
    assert torch.equal(token_at(x, cut, PATCH)[1], x[1, :, 2:, :4, :5])


def test_hidden_tokens_of_random_prediction():
    hidden = random_tokens(Draws(range(200)), TOKENS)
    counts = hidden.sum(1)
    assert counts.min() >= int(0.2 * TOKENS)
    assert counts.max() < 0.8 * TOKENS
    assert counts.float().mean() == pytest.approx(TOKENS / 2, abs=1.5)
    assert hidden.float().mean(0).sub(0.5).abs().max() < 0.15, "any token may be hidden"
    assert set(random_tokens(Draws(range(5)), TOKENS, 0.4).sum(1).tolist()) == {16}
    assert torch.equal(random_tokens(Draws([7]), TOKENS)[0], hidden[7])


def test_hidden_tokens_of_next_prediction():
    cuts = random_cuts(Draws(range(400)), 5)
    assert cuts.unique().tolist() == [1, 2, 3, 4]
    assert later_tokens(torch.tensor([1, 3]), 4).tolist() == [[False, True, True, True], [False] * 3 + [True]]


@pytest.mark.parametrize("noise", [True, False])
def test_hidden_voxels_are_noise_or_zero(noise):
    x, hidden = torch.rand(2, 1, *SIDES), random_tokens(Draws([0, 1]), TOKENS)
    fill = torch.randn_like(x) if noise else None
    got = to_tokens(hide(x, hidden, PATCH, fill), PATCH)
    assert torch.equal(got[~hidden], to_tokens(x, PATCH)[~hidden])
    others = to_tokens(fill, PATCH)[hidden] if fill is not None else torch.zeros(())
    assert torch.equal(got[hidden], others.expand_as(got[hidden]))


def test_losses_are_means_of_each_sample(network):
    x, tokens = volumes(), torch.rand(2, 1, *PATCH)
    prediction = predict(network, x)
    of_volume, of_token = squared_error(prediction.volume, x), squared_error(prediction.token, tokens)
    assert torch.equal(prediction.loss(x, tokens), of_volume + of_token)
    assert torch.equal(prediction.loss(x, tokens, mode=0), of_token)
    alone = (prediction.volume[0] - x[0]).square().mean()
    torch.testing.assert_close(of_volume[0], alone)


@pytest.mark.parametrize("mode", [0, 1])
def test_training_lowers_the_loss(network, mode):
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    x = volumes()
    cut = random_cuts(Draws([0, 1]), TOKENS)
    hidden = hide(x, later_tokens(cut, TOKENS), PATCH, Draws([2, 3]).normal(x.shape))
    losses = []
    for _ in range(25):
        loss = predict(network, hidden).loss(x, token_at(x, cut, PATCH), mode).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(w.grad is not None for w in network.parameters())
    assert losses[-1] < 0.5 * losses[0]


def test_checkpoints(tmp_path, network):
    save_parts(tmp_path / "seg", "segmenter", {"segmenter": network})
    checkpoint, parts = load_parts(tmp_path / "seg", "segmenter")
    assert parts["segmenter"].config == CONFIG
    with torch.no_grad():
        assert torch.equal(parts["segmenter"](volumes()), network(volumes()))
    assert "load_parts('seg', \"segmenter\")" in (checkpoint.folder / "README.md").read_text()
    with pytest.raises(ArzooError, match=r"makes 1 channels of a volume, .* pre-trained only"):
        arzoo.load(tmp_path / "seg")


def test_files_of_the_published_training(tmp_path, network, capsys):
    """Weights nested beside the state of the training, with the prefix of several devices."""
    state = {f"module.{name}": w for name, w in to_tokenunify(network).items()}
    path, target = tmp_path / "checkpoint-370.pth", tmp_path / "seg"
    args = argparse.Namespace(blr=1e-4)
    torch.save({"model": state, "optimizer": {}, "epoch": 370, "scaler": {}, "args": args}, path)
    settings = ("--set", "crop=[4,20,20]", "patch=[2,4,5]")
    facts = command(capsys, "convert", path, target, *settings, "--json").json
    assert (facts["kind"], list(facts["parts"])) == ("segmenter", ["segmenter"])
    loaded = load_parts(target, "segmenter")[1]["segmenter"]
    assert loaded.config == CONFIG
    for name, weight in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    failing(
        command(capsys, "convert", path, tmp_path / "b"),
        "9 inputs and 40 outputs",
        "16 x 160 x 160",
        "crop=[",
    )
    failing(command(capsys, "generate", target), "segmenter", "generator", status=2)
    failing(command(capsys, "evaluate", target, "--reference", tmp_path), "segmenter of volumes")


def test_conversion_is_strict(network):
    state = to_tokenunify(network)
    sides = {"crop": SIDES, "patch": PATCH}
    assert convert_state(state, **sides).parts["segmenter"].config == CONFIG
    for name in ("vit.stages.1.1.mamba.A_b_log", "decoder2.transp_conv.conv.weight", "preciever.mlp.bias"):
        with pytest.raises(ArzooError, match=f"missing: {name}"):
            convert_state({key: w for key, w in state.items() if key != name}, **sides)
    with pytest.raises(ArzooError, match=r"unknown: vit\.norm"):
        convert_state({**state, "vit.norm": torch.zeros(1)}, **sides)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "decoder2.transp_conv.conv.weight": torch.zeros(6, 4, 1, 2, 2)}, **sides)


def test_widths_need_not_double():
    config = SegMambaConfig(widths=(4, 9, 9), depths=(1, 1, 1), hidden=9, kernel=(3, 1, 5), slices=1)
    state = to_tokenunify(config.build())
    assert "encoder3.layer.conv3.conv.weight" not in state, "equal channels are not projected"
    assert convert_state(state, slices=1).parts["segmenter"].config == config


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 1, 4, 20, 18), "multiples of 4, got 4 x 20 x 18"),
        ((1, 1, 4, 16, 16), "5 equal parts, but a stage has 16 voxels"),
        ((1, 2, 4, 20, 20), r"\(samples, 1, z, y, x\), got \(1, 2, 4, 20, 20\)"),
        ((1, 4, 20, 20), r"\(samples, 1, z, y, x\)"),
        ((1, 1, 0, 20, 20), "multiples of 4, got 0 x 20 x 20"),
        ((1, 1, 4, 20, 40), "made for volumes of 4 x 20 x 20 voxels, got 4 x 20 x 40"),
    ],
)
def test_volumes_that_are_refused(network, shape, words):
    with pytest.raises(ArzooError, match=words):
        predict(network, torch.rand(shape))


def test_settings_that_are_refused():
    for changes, words in (
        ({"depths": (1,)}, "a number for each stage"),
        ({"kernel": (1, 2, 3)}, "kernel must be odd"),
        ({"widths": (4, 0)}, "widths must be"),
        ({"out_channels": 3}, "reads volumes of 1 channel"),
    ):
        with pytest.raises(ArzooError, match=words):
            CONFIG.replace(**changes)
    one = CONFIG.replace(slices=1, resampler=None).build()
    with pytest.raises(ArzooError, match="too small"):
        one(torch.rand(1, 1, 4, 4, 4))
    with pytest.raises(ArzooError, match="no head of the next token"):
        predict(one, volumes())
    with pytest.raises(ArzooError, match="do not tile"):
        to_tokens(volumes(), (3, 4, 5))
