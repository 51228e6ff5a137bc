"""FlexTok against recordings of the published code. Sizes, kept registers and settings are read from them."""

from __future__ import annotations

import functools
import re

import pytest
import torch
import torch.nn.functional as F
from parity.family import check_keys
from parity.golden import Golden, assert_close, assert_equal, load
from parity.wrong import fails

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.tokenizers.flextok.convert import flextok_of, flextok_table, from_flextok, to_flextok
from arzoo.tokenizers.flextok.flow import ProjectedGuidance
from arzoo.tokenizers.flextok.tokenizer import FlexTok

COMPARED = [
    r"sd\..+",
    r"(imgs|noise)",
    r"enc\.(vae_latents|pre_fsq|quant|tokens)",
    r"fsq\.(z|emb|quant|tokens)",
    r"temb\.(t|freq)",
    r"apg\.(cond|uncond|step\d+)",
    r"vel\.t[\d.]+\.k[\d_]+\.unc[01]",
    r"repa\.feat_t\d+",
    r"detok\.\w+\.(latent|rgb)",
    r"train\.(keep_k|loss|noise|sigmas|velocity)",
]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("flextok_tiny")


def converted(golden: Golden, **changed: torch.Tensor) -> FlexTok:
    state = {**golden.sub("sd."), **changed}
    tokenizer = flextok_of(state, golden.info["config"]).parts["tokenizer"]
    assert isinstance(tokenizer, FlexTok)
    return tokenizer


@pytest.fixture(scope="module")
def model(golden) -> FlexTok:
    return converted(golden)


def counts(text: str) -> torch.Tensor:
    """Kept registers that a name spells: 64_5 -> [64, 5]."""
    return torch.tensor([int(number) for number in text.split("_")])


@torch.no_grad()
def check_encoder(model: FlexTok, golden: Golden) -> None:
    assert_close("latents", model.latents(golden["imgs"]), golden["enc.vae_latents"])
    before = model.encoder(golden["enc.vae_latents"])
    assert_close("in front of the quantizer", before, golden["enc.pre_fsq"])
    quantized = model.quantizer(before)
    assert_close("quantized", quantized.vectors, golden["enc.quant"])
    assert_equal("codes", quantized.codes, golden["enc.tokens"])


@torch.no_grad()
def check_velocities(model: FlexTok, golden: Golden) -> int:
    """Every recorded velocity; returns how many."""
    count = 0
    for key, want in golden.items():
        match = re.fullmatch(r"vel\.t([\d.]+)\.k([\d_]+)\.unc([01])", key)
        if match is None:
            continue
        keep = counts(match[2]) * (match[3] == "0")
        registers = model.decoder.embed(golden["enc.quant"], keep)
        velocity, _ = model.decoder(golden["noise"], torch.tensor([float(match[1])]), registers)
        assert_close(key, velocity, want)
        count += 1
    return count


def test_every_recorded_tensor_is_compared(golden):
    check_keys(golden, COMPARED)


def test_encoder(model, golden):
    check_encoder(model, golden)


def test_velocities(model, golden):
    assert check_velocities(model, golden) > 0


def test_codes_and_vectors(model, golden):
    assert_equal("vectors of codes", model.quantizer.lookup(golden["enc.tokens"]), golden["enc.quant"])
    quantized = model.quantizer(golden["fsq.z"])
    assert_equal("codes", quantized.codes, golden["fsq.tokens"])
    assert_close("quantized", quantized.vectors, golden["fsq.quant"])
    assert_close("vectors of codes", model.quantizer.lookup(golden["fsq.tokens"]), golden["fsq.emb"])


def test_waves_of_the_time(model, golden):
    assert_close("waves", model.decoder.time.waves(golden["temb.t"]), golden["temb.freq"])


def test_projected_guidance(golden):
    guide, scale = ProjectedGuidance(), golden.info["detok.apg"]["guidance_scale"]
    for step in range(sum(key.startswith("apg.step") for key in golden)):
        guided = guide(golden["apg.cond"] * (step + 1), golden["apg.uncond"], scale)
        assert_close(f"step {step}", guided, golden[f"apg.step{step}"])


@torch.no_grad()
def test_features_of_early_patches(model, golden):
    layer = golden.info["config"]["decoder"]["module_dict"]["dec_transformer"]["intermediate_layers"][0]
    grid = model.config.grid
    for key, want in golden.items():
        match = re.fullmatch(r"repa\.feat_t0(\d+)", key)
        if match is None:
            continue
        registers = model.decoder.embed(
            golden["enc.quant"], torch.zeros(len(golden["noise"]), dtype=torch.long)
        )
        t = torch.tensor([float(f"0.{match[1]}")])
        _, features = model.decoder(golden["noise"], t, registers, features_after=layer)
        assert_close(key, features.unflatten(1, (grid, grid)), want)


@torch.no_grad()
def test_pictures_from_prefixes(model, golden):
    names = {key.split(".")[1] for key in golden if key.startswith("detok.")}
    assert names
    for name in sorted(names):
        settings = golden.info[f"detok.{name}"]
        vectors = model.quantizer.lookup(golden["enc.tokens"])
        latents = model.draw(
            vectors,
            torch.tensor(settings["keep"]),
            golden["noise"],
            steps=settings["timesteps"],
            guidance=settings["guidance_scale"],
            projected=settings.get("perform_norm_guidance", False),
        )
        assert_close(f"{name} latents", latents, golden[f"detok.{name}.latent"])
        assert_close(f"{name} pictures", model.pictures(latents), golden[f"detok.{name}.rgb"])


@torch.no_grad()
def test_training_pass(model, golden):
    info, noise, sigmas = golden.info, golden["train.noise"], golden["train.sigmas"]
    null = torch.tensor(info["train.null_draws"]) < info["train.dropout_prob"]
    latents, share = golden["enc.vae_latents"], sigmas.view(-1, 1, 1, 1)
    registers = model.decoder.embed(golden["enc.quant"], golden["train.keep_k"] * ~null)
    velocity, _ = model.decoder(share * noise + (1 - share) * latents, sigmas, registers)
    assert_close("velocity", velocity, golden["train.velocity"])
    assert_close("loss", F.mse_loss(velocity, noise - latents), golden["train.loss"])


def test_the_converter_is_its_own_inverse(model, golden):
    state, back = golden.sub("sd."), to_flextok(model)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    if "keys" in golden.info:
        assert {name: list(value.shape) for name, value in back.items()} == golden.info["keys"]


def test_a_configuration_with_unknown_parts_is_refused(golden):
    config = {**golden.info["config"], "extra": {"_target_": "flextok.model.other.Thing"}}
    with pytest.raises(ArzooError, match=r"flextok\.model\.other\.Thing"):
        flextok_of(golden.sub("sd."), config)
    with pytest.raises(ArzooError, match=r"config\.json"):
        from_flextok(golden.sub("sd."))


def test_slightly_wrong_weights_fail(golden):
    names = [name for name in golden.sub("sd.") if name.endswith("weight") and not name.startswith("vae.")]
    for name in names[::7]:
        weight = golden[f"sd.{name}"].clone()
        weight.view(-1)[::2] *= 1.01
        wrong = converted(golden, **{name: weight})
        checks = [functools.partial(check, wrong, golden) for check in (check_encoder, check_velocities)]
        assert any(fails(check) for check in checks), name


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "total", "tensors"),
    [
        ("flextok_d12_d12", 85.4, 172.4, 341.7, 462),
        ("flextok_d18_d18", 287.3, 578.6, 949.7, 558),
        ("flextok_d18_d28", 287.3, 2169.7, 2540.9, 648),
    ],
)
def test_parameters_of_the_published_sizes(name, encoder, decoder, total, tensors):
    """Millions as published, fixed tables counted; files hold as many tensors."""
    config = registry.lookup("tokenizer", name)()
    with torch.device("meta"):
        model = FlexTok(config)
    assert len({part for join in flextok_table(config).values() for part in join.names}) == tensors

    def millions(part: torch.nn.Module) -> float:
        return round(sum(value.numel() for value in part.state_dict().values()) / 1e6, 1)

    assert (millions(model.encoder), millions(model.decoder), millions(model)) == (encoder, decoder, total)
