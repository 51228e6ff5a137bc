"""LlamaGen's VQ tokenizer, quantiser, discriminator and losses against recordings of the published code."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal, find, load

from arzoo.base import registry
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import split
from arzoo.tokenizers.common.discriminator import PatchDiscriminator
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.tokenizers.quantizers.vq import VectorQuantizer
from arzoo.tokenizers.vq.convert import from_llamagen_vq, published_name, to_llamagen_vq, vq_table

# What the tests below compare. `loss.lpips_evalmode` came from weights that were not recorded: only its mean is used.
COMPARED = [
    r"vq\.(sd|grad)\..+",
    r"vq\.(x|h|indices|quant|rec|decode_code|train_vq_loss|train_commit_loss|train_entropy_loss_ratio[\d.]+)",
    r"disc\.(sd|sd_after_gen_forward)\..+",
    r"loss\.(recon_in|disc_total|gen_total_lpips_eval|lpips_evalmode)",
    r"(c2i|t2i)\..+",  # the transformer's, compared in test_llamagen.py
]


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The whole recording, or the small copy that holds everything but the networks' weights."""
    full = find("llamagen")
    found = load("llamagen") if full is not None else load("llamagen_vq")
    return found if "vq.x" in found else load("llamagen_vq")


@pytest.fixture(scope="module")
def state(golden):
    weights = {key.removeprefix("vq.sd."): value for key, value in golden.items() if key.startswith("vq.sd.")}
    if "encoder.conv_in.weight" not in weights:
        pytest.skip(
            "llamagen.safetensors with the tokenizer's weights (vq.sd.*) not found; tests/golden has none"
        )
    return weights


@pytest.fixture
def tokenizer(golden, state):
    return from_llamagen_vq(state, image_size=golden["vq.x"].shape[-1]).parts["tokenizer"]


def entropy_ratio(golden) -> float:
    name = next(key for key in golden if key.startswith("vq.train_entropy_loss_ratio"))
    return float(name.rpartition("ratio")[2])


def decoded_by(tokenizer, codes, latents):
    """Pictures of codes on the grid of recorded latents (B, C, h, w)."""
    return as_pictures(tokenizer.decode(Tokens.of(codes, layout=Grid(1, *latents.shape[2:]))))


def channels_first(vectors):
    """(B, h, w, C) as recordings have them, (B, C, h, w)."""
    return vectors.permute(0, 3, 1, 2)


def channels_last(latents):
    return latents.permute(0, 2, 3, 1)


def test_every_recorded_tensor_is_compared(golden):
    unknown = [key for key in golden if not any(re.fullmatch(pattern, key) for pattern in COMPARED)]
    assert not unknown


def test_stages_of_encoding_and_decoding(golden, tokenizer):
    with torch.no_grad():
        h = tokenizer.latents(golden["vq.x"])
        assert_close("h", channels_first(h), golden["vq.h"])
        quantised = tokenizer.quantizer(h)
        assert_equal("indices", quantised.codes.flatten(), golden["vq.indices"])
        assert_close("quant", channels_first(quantised.vectors), golden["vq.quant"])
        assert_close("rec", tokenizer.decode_latents(quantised.vectors), golden["vq.rec"])
        assert_equal("codes", tokenizer.encode(as_clips(golden["vq.x"])).values, quantised.codes.flatten(1))
        decoded = decoded_by(tokenizer, quantised.codes.flatten(1), golden["vq.h"])
        assert_close("decode_code", decoded, golden["vq.decode_code"])


def test_single_stages_from_recorded_inputs(golden, tokenizer):
    with torch.no_grad():
        assert_close("rec", tokenizer.decode_latents(channels_last(golden["vq.quant"])), golden["vq.rec"])
        codes = golden["vq.indices"].view(len(golden["vq.x"]), -1)
        decoded = decoded_by(tokenizer, codes, golden["vq.quant"])
        assert_close("decode_code", decoded, golden["vq.decode_code"])


def test_training_losses_and_gradients(golden, tokenizer):
    ratio, weights = entropy_ratio(golden), TokenizerLossConfig()
    assert golden.info["settings"]["vq.grad loss"] == f"mean(rec**2) + vq + commit + {ratio:g}*entropy"
    clips, quantised = tokenizer.train()(as_clips(golden["vq.x"]))
    rec = as_pictures(clips)
    codebook, commitment = (
        getattr(weights, name) * quantised.losses[name] for name in ("codebook", "commitment")
    )
    entropy = ratio * quantised.entropy()
    assert_close("vq_loss", codebook.view(1), golden["vq.train_vq_loss"])
    assert_close("commit_loss", commitment.view(1), golden["vq.train_commit_loss"])
    assert_close("entropy_loss", entropy.view(1), golden[f"vq.train_entropy_loss_ratio{ratio:g}"])
    (rec.square().mean() + codebook + commitment + entropy).backward()
    gradients = {f"tokenizer.{name}": p.grad for name, p in tokenizer.named_parameters()}
    gradients = split(gradients, vq_table(tokenizer.config))
    for name, want in golden.sub("vq.grad.").items():
        assert_close(name, gradients[name], want, GRADIENT_TOLERANCE)


def test_quantiser_alone_and_its_record_of_uses(golden):
    weight = golden["vq.sd.quantize.embedding.weight"]
    quantizer = VectorQuantizer(*weight.shape)
    quantizer.load_state_dict({"embedding.weight": weight, "recent": torch.zeros_like(quantizer.recent)})
    quantised = quantizer.train()(channels_last(golden["vq.h"]))
    assert_equal("indices", quantised.codes.flatten(), golden["vq.indices"])
    assert_close("quant", channels_first(quantised.vectors), golden["vq.quant"])
    assert_close("vq_loss", quantised.losses["codebook"].view(1), golden["vq.train_vq_loss"])
    assert_close(
        "commit_loss",
        TokenizerLossConfig().commitment * quantised.losses["commitment"].view(1),
        golden["vq.train_commit_loss"],
    )
    ratio = entropy_ratio(golden)
    assert_close(
        "entropy", ratio * quantised.entropy().view(1), golden[f"vq.train_entropy_loss_ratio{ratio:g}"]
    )
    share = (quantizer.usage() > 0).float().mean().item()
    assert share == pytest.approx(golden.info["vq_codebook_usage_after_one_step"], abs=1e-9)


def test_discriminator_and_adversarial_losses(golden):
    settings = golden.info["settings"]["vq losses"]
    weight = float(re.search(r"disc_weight ([\d.]+)", settings)[1])
    before = golden.sub("disc.sd.")
    layers = sum(key.endswith("running_mean") for key in before)
    discriminator = PatchDiscriminator(len(before["main.0.weight"]), layers)
    discriminator.load_state_dict(dict(before))
    assert {k: list(v.shape) for k, v in discriminator.state_dict().items()} == golden.info["disc_keys"]
    discriminator.train()

    x, rec = golden["vq.x"], golden["loss.recon_in"]
    config = TokenizerLossConfig(
        perceptual=0.0, codebook=0.0, commitment=0.0, adversarial=weight, adversarial_start=1
    )
    criterion = config.build()
    fake = discriminator(rec)
    for name, want in golden.sub("disc.sd_after_gen_forward.").items():
        assert_close(name, discriminator.state_dict()[name], want)
    quantizer = VectorQuantizer(4, 2)
    nothing = quantizer(torch.ones(1, 1, 2))
    total, terms = criterion.generator(x, rec, nothing, fake, step=1)
    perceptual = golden["loss.lpips_evalmode"].mean()
    assert_close("mse", terms["l2"], F.mse_loss(rec, x))
    assert_close("generator", (total + perceptual).view(1), golden["loss.gen_total_lpips_eval"])
    adversarial = golden["loss.gen_total_lpips_eval"] - F.mse_loss(rec, x) - perceptual
    assert_close("adversarial", weight * terms["adversarial"].view(1), adversarial)
    loss = criterion.discriminator(discriminator(x), discriminator(rec), step=1)
    assert_close("discriminator", loss.view(1), golden["loss.disc_total"])

    logged = dict(re.findall(r"(\w+): (-?[\d.]+)", " ".join(golden.info["log"])))
    assert weight * terms["adversarial"].item() == pytest.approx(
        float(logged["generator_adv_loss"]), abs=6e-5
    )
    assert terms["l2"].item() == pytest.approx(float(logged["rec_loss"]), abs=6e-5)


def test_the_converter_is_its_own_inverse(state, tokenizer):
    back = to_llamagen_vq(tokenizer)
    assert back.keys() == state.keys()
    assert all(
        torch.equal(back[name], state[name]) and back[name].dtype == state[name].dtype for name in state
    )
    assert EMPTY not in tokenizer.quantizer.recent


def test_names_and_shapes_of_the_published_size(golden):
    if "vq16_keys" not in golden.info:
        pytest.skip("llamagen.json has no vq16_keys")
    for name in ("vq_16", "vq_8"):
        with torch.device("meta"):
            model = registry.create("tokenizer", name)
        assert sum(p.numel() for p in model.parameters()) == golden.info[f"{name.replace('_', '')}_params"]
        if name == "vq_16":
            ours = {published_name(key): list(value.shape) for key, value in model.state_dict().items()}
            assert ours == golden.info["vq16_keys"]


@pytest.mark.parametrize("size", [1e-3])
def test_slightly_wrong_weights_fail(golden, state, size):
    for name in (
        "encoder.mid.1.q.weight",
        "decoder.norm_out.weight",
        "quantize.embedding.weight",
        "post_quant_conv.bias",
    ):
        weight = state[name].clone()
        weight.view(-1)[:: max(1, weight.numel() // 16)] *= 1 + 10 * size
        weight.view(-1)[0] += size
        wrong = from_llamagen_vq({**state, name: weight}, image_size=golden["vq.x"].shape[-1]).parts[
            "tokenizer"
        ]
        with pytest.raises(AssertionError):
            test_stages_of_encoding_and_decoding(golden, wrong)
