"""VAR's multi-scale VQ tokenizer against recordings of the published code. Every size is read from them."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from parity.family import check_keys
from parity.flow_tapes import flat, record
from parity.golden import GRADIENT_TOLERANCE, TOLERANCE, Golden, assert_close, assert_equal, load
from parity.wrong import check_noticed, shares

from arzoo.base import registry
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state
from arzoo.tokenizers.msvq.convert import USES, from_msvq, msvq_table, to_msvq
from arzoo.tokenizers.msvq.network import MultiScaleTokenizer
from arzoo.tokenizers.quantizers.multi_scale import shared_by

KEYS = [
    r"vae\.sd\..+",
    r"vae\.(img|img_u8|f|idx_all|var_input|rec_from_idx)",
    r"vae\.(alt_scales|znorm)\.idx_all",
    r"vae\.enc\.(level\d+_out|mid_attn|mid|out)",
    r"vae\.dec\.(post_quant|conv_in|mid|level\d+_out)",
    r"vae\.scale\d+\.(residual_down|idx|f_hat|vq_loss_term)",
    r"vae\.rec\.scale\d+(_sub\d+)?",
    r"vae\.train\.(vq_loss|rec_mse|rec_unclamped_sub\d+|grad(_norms)?\..+)",
    r"vars?\..+",  # the transformers', compared in test_var.py
]


@pytest.fixture(scope="module")
def whole() -> Golden:
    return load("var")


@pytest.fixture(scope="module")
def golden(whole) -> Golden:
    return whole.sub("vae.")


@pytest.fixture(scope="module")
def state(golden) -> Golden:
    return golden.sub("sd.")


def converted(golden: Golden, state, levels: str = "patch_nums", **settings) -> MultiScaleTokenizer:
    arguments = {"image_size": golden["img"].shape[-1], "levels": tuple(golden.info["config"][levels])}
    return convert_state(state, **arguments, **settings).parts["tokenizer"]


@pytest.fixture
def tokenizer(golden, state) -> MultiScaleTokenizer:
    return converted(golden, state)


def matching(want, got):
    """The part of a stage that was recorded: the first samples and channels."""
    return got[: want.shape[0], : want.shape[1]]


def thinned(key: str, x):
    """Pictures as a key says: `_sub4` keeps every fourth row and column."""
    match = re.search(r"_sub(\d+)$", key)
    step = int(match[1]) if match else 1
    return x[..., ::step, ::step]


def test_every_recorded_tensor_is_compared(whole):
    check_keys(whole, KEYS)


def test_sizes(golden, tokenizer):
    info, config = golden.info["config"], tokenizer.config
    assert config.widths == tuple(info["ch"] * factor for factor in info["ch_mult"])
    assert (config.vocab, config.code_channels) == (info["V"], info["Cvae"])
    assert (config.levels, config.convolutions) == (tuple(info["patch_nums"]), info["share_quant_resi"])
    assert sum(p.numel() for p in tokenizer.parameters()) == golden.info["vae_num_params"]
    assert tokenizer.quantizer.shared_by == golden.info["phi_index_of_this_file"]


def test_convolutions_of_levels(whole):
    for levels, want in whole.info["phi_index"]["by_num_scales"].items():
        assert shared_by(int(levels), whole.info["config"]["share_quant_resi"]) == want


def stages(model: MultiScaleTokenizer) -> dict[str, torch.nn.Module]:
    """Our modules by the names of the recorded stages."""
    encoder, decoder = model.encoder, model.decoder
    found = {"enc.mid_attn": encoder.middle[1], "enc.mid": encoder.middle, "enc.out": encoder}
    found |= {"dec.post_quant": model.from_code, "dec.conv_in": decoder.conv_in, "dec.mid": decoder.middle}
    for name, levels in (("enc", encoder.levels), ("dec", decoder.levels[::-1])):
        for i, level in enumerate(levels):
            found[f"{name}.level{i}_out"] = level.attention[-1] if len(level.attention) else level.blocks[-1]
    return found


@torch.no_grad()
def check_network(model: MultiScaleTokenizer, golden: Golden) -> None:
    """Every recorded stage from pictures to codes and back."""
    clips, canvas = as_clips(golden["img"]), model.spec.canvas
    outputs = record(stages(model), lambda: model.decode(model.encode(clips)))
    assert outputs.keys() == {key for key in golden if key.startswith(("enc.", "dec."))}
    for name, got in outputs.items():
        assert_close(name, matching(golden[name], got), golden[name])
    z = model.latents(clips)
    assert_close("f", z, golden["f"])
    tokens = model.encode(clips)
    assert_equal("codes", tokens.values, golden["idx_all"])
    inputs = []
    for level, (codes, total, vectors) in enumerate(model.quantizer.by_level(z)):
        recorded = golden.sub(f"scale{level}.")
        assert_close("residual", vectors, flat(recorded["residual_down"]))
        assert_equal("codes of a level", codes, recorded["idx"])
        assert_close("sum", total, recorded["f_hat"])
        assert_close("sum of the canvas", canvas(tokens.values, level + 1), recorded["f_hat"])
        term = 0.25 * F.mse_loss(z, total) + F.mse_loss(total, z)
        assert_close("loss of a level", term, recorded["vq_loss_term"])
        if level:
            grid = model.config.layout.levels[level]
            inputs.append(flat(F.adaptive_avg_pool2d(before, (grid.h, grid.w))))  # noqa: F821
        before = total  # noqa: F841
    assert_close("inputs of VAR", torch.cat(inputs, 1), golden["var_input"])
    for key, want in golden.sub("rec.").items():
        level = int(re.match(r"scale(\d+)", key)[1])
        prefix = tokens.first(model.config.layout.span(level).stop)
        check_clamped(key, as_pictures(model.decode(prefix)), want)
    check_clamped(
        "rec_from_idx", as_pictures(model.decode(Tokens.of(golden["idx_all"]))), golden["rec_from_idx"]
    )


def check_clamped(key: str, pictures, want) -> None:
    """Compare pictures that were recorded after clamping: their rounding is that of the values before it."""
    scale = float(pictures.abs().max().clamp(min=1))
    assert_close(key, thinned(key, pictures.clamp(-1, 1)), want, TOLERANCE * scale)


def test_network(golden, tokenizer):
    assert_close("img", golden["img_u8"] / 255 * 2 - 1, golden["img"])
    check_network(tokenizer, golden)


def test_other_levels_and_codes_by_direction(golden, state):
    clips = as_clips(golden["img"])
    other = converted(golden, state, "alt_patch_nums")
    assert_equal("other levels", other.encode(clips).values, golden["alt_scales.idx_all"])
    cosine = converted(golden, state, cosine=True)
    assert_equal("by direction", cosine.encode(clips).values, golden["znorm.idx_all"])


def test_training_losses_and_gradients(golden, tokenizer):
    clips, quantized = tokenizer.train()(as_clips(golden["img"]))
    rec, losses = as_pictures(clips), quantized.losses
    for key, want in golden.sub("train.").items():
        if key.startswith("rec_unclamped"):
            assert_close(key, thinned(key, rec), want)
    loss = losses["codebook"] + 0.25 * losses["commitment"]
    error = F.mse_loss(rec, golden["img"])
    assert_close("vq_loss", loss, golden["train.vq_loss"])
    assert_close("rec_mse", error, golden["train.rec_mse"])
    (error + loss).backward()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.data = (
                parameter.grad
            )  # not a copy into the recorded weights, which it shares memory with
    gradients, norms = to_msvq(tokenizer), golden.sub("train.grad_norms.")
    assert gradients.keys() == norms.keys()
    # The gradient of a bias in front of a norm of single channels is zero up to rounding.
    largest = max(float(want) for want in norms.values())
    for key, want in norms.items():
        assert abs(float(gradients[key].norm()) - float(want)) <= GRADIENT_TOLERANCE * max(
            float(want), 1e-3 * largest
        )
    for key, want in golden.sub("train.grad.").items():
        assert_close(key, gradients[key], want, GRADIENT_TOLERANCE)


def test_the_converter_is_its_own_inverse(golden, state, tokenizer):
    back = to_msvq(tokenizer)
    assert back.keys() == state.keys() - {USES}
    for name, value in back.items():
        assert_equal(name, value, state[name])


def test_wrong_weights_fail(golden, tokenizer):
    """Every fifth weight; a bias before a norm of single channels, and one of all keys, cannot be noticed."""
    torch.manual_seed(0)
    found = shares({"tokenizer": tokenizer}, msvq_table(tokenizer.config))
    noticeable = [pair for pair in found if not pair[0].endswith((".conv1.bias", ".k.bias"))]
    check_noticed(noticeable[::5], lambda: check_network(tokenizer, golden), 0.05)


@pytest.mark.parametrize(("name", "image_size"), [("msvq_16", 256), ("msvq_16_512", 512)])
def test_published_size(whole, name, image_size):
    counts = whole.info["param_counts"]["vqvae_ch160v4096z32"]
    with torch.device("meta"):
        model = registry.create("tokenizer", name)
    parts = {
        "encoder": model.encoder, "decoder": model.decoder, "quantize": model.quantizer, "quant_conv": model.to_code,
        "post_quant_conv": model.from_code, "total": model,
    }  # fmt: skip
    assert {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()} == counts
    state = {key: torch.empty(value.shape) for key, value in to_msvq(model).items()}
    assert {"encoder.mid.attn_1.qkv.weight", "decoder.up.4.attn.2.qkv.bias"} <= state.keys()
    assert state["encoder.mid.attn_1.qkv.weight"].shape == (1920, 640, 1, 1)
    zeros = {key: torch.zeros(value.shape) for key, value in state.items()}
    assert from_msvq(zeros, image_size).parts["tokenizer"].config == model.config
