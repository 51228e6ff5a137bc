"""OmniTokenizer with codes and with vectors, against recordings of the published code. All sizes are read from them."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch
from parity.family import check_keys
from parity.golden import Golden, assert_close, assert_equal, load
from parity.wrong import check_noticed, shares
from torch import Tensor

from arzoo.core.clips import as_clips
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_opened
from arzoo.models.common.weight_file import choose
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.omnitok.convert import omnitok_table, to_omnitok, unused
from arzoo.tokenizers.omnitok.tokenizer import HALF, OmniTokenizer
from arzoo.tokenizers.quantizers.base import perplexity

KEYS = [
    r"state_dict\..+",
    r"(image|video)",
    r"(image|video)_(h|recon|recon_flat|codes|embeddings|mean)",
    r"(image|video)_(commitment_loss|perplexity)",
    r"causality_first_latent_maxdiff",
]
KINDS = ("omnitok_vq", "omnitok_vae")


@pytest.fixture(scope="module", params=KINDS)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


def arguments(golden: Golden) -> dict[str, Any]:
    """Arguments of the published constructor."""
    return {name.removeprefix("config."): value for name, value in golden.info.items()}


def checkpoint(golden: Golden, spelling: str = "causal") -> dict[str, Any]:
    """The recorded weights as Lightning stores them, beside networks of the loss."""
    args = {name.replace("causal", spelling): value for name, value in arguments(golden).items()}
    loss = {
        f"{part}.weight": torch.zeros(1) for part in ("image_discriminator.main.0", "perceptual_model.net")
    }
    state = {**golden.sub("state_dict."), **loss}
    return {"state_dict": state, "hyper_parameters": {"args": argparse.Namespace(**args)}, "epoch": 3}


def converted(golden: Golden, **settings: Any) -> OmniTokenizer:
    tokenizer = convert_opened(choose(checkpoint(golden)), "omnitok", **settings).parts["tokenizer"]
    assert isinstance(tokenizer, OmniTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def model(golden: Golden) -> OmniTokenizer:
    return converted(golden)


def inputs(golden: Golden) -> dict[str, Tensor]:
    """The recorded clips and pictures as clips (B, 3, T, H, W) in [-1, 1]."""
    return {name: as_clips(golden[name]) / HALF for name in ("image", "video") if name in golden}


def channels_first(latents: Tensor) -> Tensor:
    """(B, t, h, w, C) as recordings have them, (B, C, t, h, w)."""
    return latents.movedim(-1, 1)


@torch.no_grad()
def check_stages(model: OmniTokenizer, golden: Golden) -> None:
    """Every recorded stage of every input: encoding, the bottleneck, and decoding of it and of what was recorded."""
    for name, x in inputs(golden).items():
        part = golden.sub(f"{name}_")
        latents = model.latents(x)
        assert_close(f"{name} h", channels_first(latents), part["h"])
        rebuilt, bottleneck = model(x)
        assert_close(f"{name} reconstruction", rebuilt * HALF, as_clips(part["recon"]))
        tokens = model.encode(x)
        decoded = model.decode(tokens)
        assert_close(f"{name} decoded", decoded * HALF, as_clips(part["recon"]))
        if model.config.vocab:
            check_codes(name, model, part, bottleneck, tokens)
        else:
            mean = channels_first(tokens.values.unflatten(1, latents.shape[1:4]))
            assert_close(f"{name} mean", mean, part["mean"])
            recorded = model.decode_latents(part["mean"].movedim(1, -1))
            assert_close(f"{name} decoded recorded mean", recorded * HALF, as_clips(part["recon"]))


def check_codes(name: str, model: OmniTokenizer, part: Golden, bottleneck: Any, tokens: Tokens) -> None:
    """Codes, their vectors and losses, and pictures of the recorded codes."""
    assert_equal(f"{name} codes", bottleneck.codes, part["codes"])
    assert_equal(f"{name} tokens", tokens.values, part["codes"].flatten(1))
    assert_close(f"{name} embeddings", channels_first(bottleneck.vectors), part["embeddings"])
    recorded = Tokens.of(part["codes"].flatten(1), layout=Grid(*part["codes"].shape[1:]))
    key = "recon_flat" if "recon_flat" in part else "recon"
    assert_close(f"{name} decoded recorded codes", model.decode(recorded) * HALF, as_clips(part[key]))
    if "commitment_loss" in part:
        commitment = TokenizerLossConfig().commitment * bottleneck.losses["commitment"]
        assert_close(f"{name} commitment", commitment, part["commitment_loss"])
    if "perplexity" in part:
        uses = torch.bincount(bottleneck.codes.flatten())
        ours = torch.tensor(perplexity(uses / uses.sum()))
        assert_close(f"{name} perplexity", ours, part["perplexity"])


def test_every_recorded_tensor_is_compared(golden):
    check_keys(golden, KEYS)


def test_stages(golden, model):
    check_stages(model, golden)


def test_sizes_and_settings_follow_from_the_file(golden, model):
    args, config = arguments(golden), model.config
    for ours, theirs in {
        "image_size": "resolution", "frames": "sequence_length", "patch": "patch_size",
        "time_patch": "temporal_patch_size",
        "width": "embedding_dim", "heads": "heads", "head_width": "dim_head", "encoder_blocks": "enc_block",
        "decoder_blocks": "dec_block", "time_blocks": "temporal_depth", "window": "twod_window_size",
        "channels": "codebook_dim", "causal_attention": "causal_in_temporal_transformer",
        "causal_convolution": "causal_in_peg", "unit_latents": "l2_code",
    }.items():  # fmt: skip
        assert getattr(config, ours) == args[theirs], ours
    assert config.vocab == (0 if args["use_vae"] else args["n_codes"])
    assert config.rotary == (args["spatial_pos"] == "rope")
    assert config.hidden == int(args["ff_mult"] * (2 / 3) * args["embedding_dim"])


@torch.no_grad()
def test_late_frames_change_the_first_latents(golden, model):
    """Which change was recorded is not known, only that it is large."""
    x = inputs(golden)["video"]
    changed = x.clone()
    changed[:, :, -model.config.time_patch :] = (
        torch.rand(changed[:, :, -model.config.time_patch :].shape) * 2 - 1
    )
    difference = (model.latents(changed) - model.latents(x))[:, 0].abs().max()
    assert not model.strictly_causal
    assert min(difference, golden["causality_first_latent_maxdiff"]) > 0.1


def test_the_converter_gives_back_what_published_code_uses(golden, model):
    back, state = to_omnitok(model), golden.sub("state_dict.")
    assert all(torch.equal(back[name], state[name]) for name in back)
    rest = {name for name in state.keys() - back.keys() if not unused(name, model.config)}
    assert all(name.endswith((".beta", ".relative_position_index")) for name in rest)


def test_slightly_wrong_weights_are_noticed(golden, model):
    weights = shares({"tokenizer": model}, omnitok_table(model.config))
    # The bias in front of a norm of the same width moves all its inputs alike, and is too small a change of some.
    check_noticed([*weights][::7], lambda: check_stages(model, golden), change=0.05)


@pytest.mark.parametrize("quirk", ["viewed", "raw_keys", "rotary", "causal_attention", "causal_convolution"])
def test_without_its_quirks_it_is_another_network(golden, model, quirk):
    wrong = model.config.replace(**{quirk: not getattr(model.config, quirk)}).build().eval()
    wrong.load_state_dict(model.state_dict())
    with pytest.raises(AssertionError, match="largest error"):
        check_stages(wrong, golden)
