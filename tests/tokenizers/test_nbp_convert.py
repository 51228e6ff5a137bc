"""Conversion of NBP's tokenizer: names, sizes read from shapes, strictness, training files, the command."""

from __future__ import annotations

import argparse

import pytest
import torch
import torch.nn.functional as F
from command import command

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts
from arzoo.models.common.convert import convert_state
from arzoo.tokenizers.nbp.convert import (
    from_nbp_tokenizer,
    is_nbp_tokenizer,
    nbp_tokenizer_config,
    nbp_tokenizer_table,
    to_nbp_tokenizer,
)
from arzoo.tokenizers.nbp.network import NBPTokenizerConfig
from arzoo.tokenizers.nbp.presets import nbp_clip

TINY = NBPTokenizerConfig(image_size=16, frames=9, widths=(4, 8, 8, 16), blocks=1, middle=1, levels=(8, 5, 5))
ARGUMENTS = {"image_size": 16, "frames": 9, "levels": (8, 5, 5)}


def test_names_are_the_published_ones():
    names = {join.names[0] for join in nbp_tokenizer_table(nbp_clip()).values()}
    assert len(names) == 434
    for half, last in (("encoder", 26), ("decoder", 29)):
        numbers = {int(name.split(".")[1]) for name in names if name.startswith(half)}
        # Unfolding channels into pixels has no weights.
        silent = {10, 16, 22} if half == "decoder" else set()
        assert numbers == set(range(last + 1)) - silent
    widened = {name.split(".residual_fn.0.conv.")[0] for name in names if "residual_fn" in name}
    assert widened == {"encoder_layers.6", "encoder_layers.16", "decoder_layers.11", "decoder_layers.23"}
    for name in (
        "encoder_layers.0.conv.weight", "encoder_layers.5.conv.bias", "encoder_layers.1.fn.0.weight",
        "encoder_layers.1.fn.1.beta", "encoder_layers.1.fn.2.conv.weight", "encoder_layers.1.fn.3.bias",
        "encoder_layers.1.fn.4.beta", "encoder_layers.1.fn.5.conv.bias", "encoder_layers.24.weight",
        "encoder_layers.25.beta", "encoder_layers.26.bias", "decoder_layers.9.conv.weight", "decoder_layers.27.bias",
        "decoder_layers.28.beta", "decoder_layers.29.conv.bias",
    ):  # fmt: skip
        assert name in names


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"widths": (4, 8), "strides": ((2, 1, 1),), "decoder_widths": (8, 8), "image_size": 16},
        {"blocks": 2, "middle": 0, "strides": ((1, 2, 2), (2, 1, 1), (2, 2, 2)), "unshuffle": 2},
    ],
)
def test_sizes_come_from_shapes(change):
    torch.manual_seed(0)
    config = TINY.replace(**change)
    state = to_nbp_tokenizer(config.build())
    assert is_nbp_tokenizer(state)
    conversion = convert_state(state, **ARGUMENTS)
    tokenizer = conversion.parts["tokenizer"]
    assert (conversion.source, tokenizer.config) == ("nbp_tokenizer", config)
    again = to_nbp_tokenizer(tokenizer)
    assert again.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.items())


def pad(x: torch.Tensor, time: int, side: int) -> torch.Tensor:
    """Repeat the first frame before a clip, and the borders around each frame."""
    x = torch.cat([x[:, :, :1]] * time + [x], 2)
    for dim in (3, 4):
        for _ in range(side):
            x = torch.cat([x.narrow(dim, 0, 1), x, x.narrow(dim, x.shape[dim] - 1, 1)], dim)
    return x


def conv(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, stride=(1, 1, 1)) -> torch.Tensor:
    weight = state[f"{name}.weight"]
    return F.conv3d(
        pad(x, 2 * (weight.shape[2] // 2), weight.shape[3] // 2), weight, state[f"{name}.bias"], stride
    )


def normed(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, groups: int) -> torch.Tensor:
    frames = [
        F.group_norm(x[:, :, t], groups, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)
        for t in range(x.shape[2])
    ]
    return torch.stack(frames, 2)


def swish(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(state[f"{name}.beta"] * x)


def published_half(
    state,
    half: str,
    x: torch.Tensor,
    strides: dict[int, tuple[int, int, int]],
    factors: dict[int, tuple[int, int, int]],
    groups=4,
):
    """Encoder or decoder by the published names, one layer after another; widths here have 4 groups."""
    last = max(int(name.split(".")[1]) for name in state if name.startswith(half))
    for number in range(last + 1):
        name = f"{half}.{number}"
        if number in factors:
            a, b, c = factors[number]
            batch, channels, t, h, w = x.shape
            x = x.reshape(batch, a, b, c, channels // (a * b * c), t, h, w).permute(0, 4, 5, 1, 6, 2, 7, 3)
            x = x.reshape(batch, -1, t * a, h * b, w * c)[:, :, a - 1 :]
        elif f"{name}.fn.0.weight" in state:
            y = x
            for at in (0, 3):
                y = swish(state, f"{name}.fn.{at + 1}", normed(state, f"{name}.fn.{at}", y, groups))
                y = conv(state, f"{name}.fn.{at + 2}.conv", y)
            x = y + (
                conv(state, f"{name}.residual_fn.0.conv", x)
                if f"{name}.residual_fn.0.conv.bias" in state
                else x
            )
        elif f"{name}.conv.weight" in state:
            x = conv(state, f"{name}.conv", x, strides.get(number, (1, 1, 1)))
        elif f"{name}.beta" in state:
            x = swish(state, name, x)
        elif state[f"{name}.weight"].dim() == 1:
            x = normed(state, name, x, groups)
        else:
            x = F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"])
    return x


@torch.no_grad()
def test_every_layer_is_the_published_one():
    torch.manual_seed(0)
    model = TINY.replace(widths=(4, 8, 8, 12), levels=(8, 8, 8, 5, 5, 5), style={"groups": 4}).build().eval()
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    state, x = to_nbp_tokenizer(model), torch.rand(2, 3, 9, 16, 16)
    vectors = published_half(state, "encoder_layers", x, {2: (1, 2, 2), 4: (2, 2, 2), 6: (2, 2, 2)}, {})
    torch.testing.assert_close(model.latents(x * 2 - 1), vectors.permute(0, 2, 3, 4, 1), atol=1e-4, rtol=1e-4)
    codes = model.encode(x * 2 - 1)
    z = model.quantizer.lookup(codes.values).unflatten(1, (3, 2, 2)).permute(0, 4, 1, 2, 3)
    clips = published_half(state, "decoder_layers", z, {}, {4: (2, 2, 2), 7: (2, 2, 2), 10: (1, 2, 2)})
    torch.testing.assert_close(model.decode(codes), clips * 2 - 1, atol=1e-4, rtol=1e-4)


def test_published_sizes_are_read_without_arguments():
    with torch.device("meta"):
        state = to_nbp_tokenizer(nbp_clip().build())
    assert nbp_tokenizer_config(state) == nbp_clip()


def test_nothing_is_missing_left_over_or_misshapen():
    state = to_nbp_tokenizer(TINY.build())
    for name in (
        "encoder_layers.1.fn.1.beta",
        "encoder_layers.0.conv.weight",
        "decoder_layers.3.conv.weight",
    ):
        with pytest.raises(ArzooError):
            from_nbp_tokenizer({key: value for key, value in state.items() if key != name}, **ARGUMENTS)
    with pytest.raises(ArzooError, match="unknown: extra"):
        from_nbp_tokenizer({**state, "extra": torch.zeros(1)}, **ARGUMENTS)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        from_nbp_tokenizer({**state, "decoder_layers.0.conv.bias": torch.zeros(3)}, **ARGUMENTS)
    with pytest.raises(ArzooError, match="3 channels, and levels"):
        from_nbp_tokenizer(state, image_size=16)
    odd = state["decoder_layers.3.conv.weight"]
    with pytest.raises(ArzooError, match="multiplies the channels by 3"):
        from_nbp_tokenizer({**state, "decoder_layers.3.conv.weight": odd[: 3 * odd.shape[1]]}, **ARGUMENTS)


def test_a_training_file_is_converted_by_the_command(capsys, tmp_path):
    state = to_nbp_tokenizer(TINY.build())
    content = {
        "model_state_dict": {f"module.{name}": value for name, value in state.items()},
        "args": argparse.Namespace(steps=3),
        "step": 3,
    }
    torch.save(content, tmp_path / "magvit2.pt")
    settings = ["--set", "image_size=16", "frames=9", "levels=[8,5,5]"]
    result = command(capsys, "convert", tmp_path / "magvit2.pt", tmp_path / "out", *settings, "--json").json
    assert result["parts"]["tokenizer"]["class"] == "NBPTokenizer"
    tokenizer = load_parts(tmp_path / "out")[1]["tokenizer"]
    assert tokenizer.config == TINY
    assert all(torch.equal(value, state[name]) for name, value in to_nbp_tokenizer(tokenizer).items())
