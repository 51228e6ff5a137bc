"""KARL against recordings of the published code. Sizes, cases and noise are read from them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
import torch
from parity.family import check_keys
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal, load
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.models.common.convert import split
from arzoo.tokenizers.karl.convert import from_karl, karl_table, to_karl
from arzoo.tokenizers.karl.network import BINS, quality_bin
from arzoo.tokenizers.karl.stage import (
    Curriculum,
    halting_terms,
    pixel_errors,
    quantizer_terms,
    reconstruction_terms,
    slot_counts,
)
from arzoo.tokenizers.karl.tokenizer import Karl, Reading
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.maskgit import MaskGITAutoencoder

PICTURES = 1e-4
"""Largest error of pictures of random base weights, whose values are of several units."""

PASS = (
    r"(condition_bin|enc_cond|halt_logits|kept|kept_count|z|z_q|ids|ids_gap|l1|h_sub2|h_sub16"
    r"|dec_out|dec_out_sub8|code_sub8|recon_sub8|recon_crop|recon_mean_std"
    r"|dec_in_before_ln_sub8|enc_in_before_ln_sub4|enc_in_sub8|enc_out_first257_sub8)"
)
COMPARED = [
    r"sd\..+",
    r"img_u8",
    r"bins\.(eps|eps_binned|eps_bin_index|values|initial_sampling_prob)",
    r"base\.img\d+\.(z_sub2|indices|rec_from_quantised_sub4|enc_level\d+_sub|enc_mid_sub|dec_level\d+_sub)",
    r"base\.img\d+\.(mean|logvar|decode_mean_sub4|decode_scaled_mean_sub4)",
    rf"infer\.\w+[\w.]*\.budget\d+\.{PASS}",
    r"infer\.[\w.]+\.(latent_scaled|rng\.\d+\.randn)",
    r"infer_(all|none)halted\.[\w.]+\.(dec_out_sub8|recon_sub8|kept_count|rng\.\d+\.randn)",
    rf"train\.\w+\.phase[12]\.({PASS}|eps_wanted|l1_of_phase1|loss\.[\w.]+)",
    r"train\.\w+\.(T|D|images|target_indices|latent_scaled|total_loss|sampling_prob_after)",
    r"train\.\w+\.(grad|grad_norms)\..+",
    r"train\.\w+\.grad_total_norm",
    r"train\.\w+\.rng\.\d+\.(randperm|randn|multinomial(\.p|\.q_exponential)?)",
]


@pytest.fixture(scope="module", params=["karl_q", "karl_c"])
def golden(request) -> Golden:
    return load(request.param)


def converted(golden: Golden, **changed: Tensor) -> Karl:
    ctor = golden.info["config"]["ctor"]
    heads = ctor["encoder_num_heads"], ctor["decoder_num_heads"]
    tokenizer = from_karl({**golden.sub("sd."), **changed}, heads=heads).parts["tokenizer"]
    assert isinstance(tokenizer, Karl)
    return tokenizer


@pytest.fixture(scope="module")
def model(golden) -> Karl:
    return converted(golden)


def pictures(golden: Golden, *numbers: int) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1]."""
    return golden["img_u8"][list(numbers)].float() / 255


def drawn(golden: Golden, case: str) -> Tensor | None:
    """Recorded noise of a case."""
    return next(
        (value for key, value in golden.items() if re.fullmatch(rf"{re.escape(case)}\.rng\.\d+\.randn", key)),
        None,
    )


@contextlib.contextmanager
def watched(**modules: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inputs (`NAME_in`) and outputs (`NAME_out`) of modules while the block runs."""
    seen: dict[str, Tensor] = {}

    def hook(name: str):
        def remember(module, inputs, output):
            seen[f"{name}_in"], seen[f"{name}_out"] = inputs[0], output

        return remember

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    yield seen
    for handle in handles:
        handle.remove()


def check_reading(name: str, model: Karl, reading: Reading, seen: dict[str, Tensor], want: Golden) -> None:
    """Compare what the encoder gave with everything that is recorded of it."""
    got = {
        "halt_logits": reading.halting,
        "h_sub2": seen["halt_in"][:, ::2],
        "h_sub16": seen["halt_in"][:, ::16],
        "z": seen["output_out"],
        "enc_in_before_ln_sub4": seen["norm_in"][:, ::4],
        "enc_in_sub8": seen["norm_out"][:, ::8],
        # The last block gives only the rows that are read; here it gives all of them.
        "enc_out_first257_sub8": model.encoder.blocks[-1](seen["last_in"])[:, :257][:, ::8],
    }
    if reading.quantized is not None:
        got["z_q"] = (
            reading.vectors if want["z_q"].shape == reading.vectors.shape else reading.vectors[:, ::4]
        )
        assert_equal(f"{name} ids", reading.quantized.codes, want["ids"])
    for key, value in got.items():
        if key in want:
            assert_close(f"{name} {key}", value, want[key])
    assert_equal(f"{name} kept", reading.kept.to(torch.uint8), want["kept"])


def encoder_parts(model: Karl) -> dict[str, nn.Module]:
    encoder = model.encoder
    return {
        "halt": encoder.norm_halt, "output": encoder.output, "norm": encoder.norm_in, "last": encoder.blocks[-1],
    }  # fmt: skip


@torch.no_grad()
def check_case(model: Karl, golden: Golden, case: str) -> None:
    """Read and rebuild a picture for every recorded number of slots."""
    info = golden.info["cases"][case]
    x = pictures(golden, info["image"])
    latents = model.base_latents(x, drawn(golden, case))
    if f"{case}.latent_scaled" in golden:
        assert_close(f"{case} latents", latents.flatten(2).transpose(1, 2), golden[f"{case}.latent_scaled"])
    quality = torch.tensor([info["epsilon"]])
    for slots in info["budgets"]:
        name, want = f"{case} {slots}", golden.sub(f"{case}.budget{slots}.")
        with watched(**encoder_parts(model)) as seen:
            reading = model.read(x, latents, quality, slots)
        check_reading(name, model, reading, seen, want)
        row = model.encoder.qualities[quality_bin(quality)]
        assert_close(f"{name} condition", row, want["enc_cond"])
        assert_close(f"{name} bin", torch.tensor(BINS)[quality_bin(quality)].squeeze(), want["condition_bin"])
        assert int(reading.kept.sum()) == int(want["kept_count"])
        for drop in (False, True) if case == cases(golden)[0] else (True,):
            with watched(norm=model.decoder.norm_in) as seen:
                rebuilt = model.rebuild(reading.vectors, reading.kept, drop)
            made = model.pictures(rebuilt)
            got = {
                "dec_out": rebuilt,
                "dec_out_sub8": rebuilt[:, ::8],
                "code_sub8": (
                    model.base.expected(rebuilt) if isinstance(model.base, MaskGITAutoencoder) else rebuilt
                )[:, ::8],
                "recon_sub8": made[:, :, ::8, ::8],
                "recon_crop": made[:, :, 112:144, 112:144],
                "recon_mean_std": torch.stack([made.mean(), made.std()]),
                "l1": pixel_errors(x, made).squeeze(),
            }
            if not drop:
                got["dec_in_before_ln_sub8"] = seen["norm_in"][:, ::8]
            for key, value in got.items():
                if key in want:
                    pixels = key.startswith(("recon", "l1"))
                    assert_close(f"{name} {key}", value, want[key], *([PICTURES] if pixels else []))


def cases(golden: Golden) -> list[str]:
    return [case for case in golden.info["cases"] if any(key.startswith(f"{case}.") for key in golden)]


def test_every_recorded_tensor_is_compared(golden):
    check_keys(golden, COMPARED)


def test_bins(golden):
    assert_close("values", torch.tensor(BINS), golden["bins.values"])
    numbers = quality_bin(golden["bins.eps"])
    assert_equal("numbers", numbers, golden["bins.eps_bin_index"])
    assert_close("binned", torch.tensor(BINS)[numbers], golden["bins.eps_binned"])
    assert_close("first weights", Curriculum().weights, golden["bins.initial_sampling_prob"])


@torch.no_grad()
def test_base(model, golden):
    for number in range(len(golden["img_u8"])):
        x, prefix = pictures(golden, number), f"base.img{number}."
        if not any(key.startswith(prefix) for key in golden):
            continue
        want = golden.sub(prefix)
        if not isinstance(model.base, MaskGITAutoencoder):
            posterior, scale = model.base.posterior(x), model.base.config.scale
            assert_close("mean", posterior.mean, want["mean"])
            assert_close("logvar", posterior.logvar, want["logvar"])
            for key, z in (
                ("decode_mean_sub4", posterior.mean),
                ("decode_scaled_mean_sub4", scale * posterior.mean),
            ):
                assert_close(key, model.base.decode_latents(z)[:, :, ::4, ::4], want[key], PICTURES)
            continue
        levels = {f"enc{i}": level[-1] for i, level in enumerate(model.base.encoder.levels)}
        last = len(levels) - 1
        levels |= {f"dec{last - i}": level[-1] for i, level in enumerate(model.base.decoder.levels)}
        with watched(**levels, middle=model.base.encoder.middle[-1]) as seen:
            z = model.base.encoder(x)
            codes = model.base.codes(z)
            vectors = model.base.codebook(codes).transpose(1, 2).unflatten(2, z.shape[2:])
            rebuilt = model.base.decoder(vectors)
        assert_close("latents", z[:, :, ::2, ::2], want["z_sub2"])
        assert_equal("codes", codes[0].view(z.shape[2:]), want["indices"])
        assert_close("pictures", rebuilt[:, :, ::4, ::4], want["rec_from_quantised_sub4"], PICTURES)
        for key, recorded in want.items():
            if match := re.fullmatch(r"(enc|dec)_level(\d+)_sub|enc_(mid)_sub", key):
                part = "middle" if match[3] else f"{match[1]}{match[2]}"
                check_thinned(key, seen[f"{part}_out"], recorded)


def check_thinned(name: str, whole: Tensor, want: Tensor) -> None:
    """Compare with a recording of the first channels, and of every n-th row and column; its shape says n."""
    step = whole.shape[2] // want.shape[2]
    assert_close(name, whole[:, : want.shape[1], ::step, ::step], want)


def test_inference(model, golden):
    names = cases(golden)
    assert names
    for case in names:
        check_case(model, golden, case)


@torch.no_grad()
def test_all_and_none_halted(model, golden):
    halted = [
        key.removesuffix(".kept_count") for key in golden if re.match(r"infer_\w+halted\..*kept_count", key)
    ]
    assert halted
    for case in halted:
        match = re.fullmatch(r"infer_(all|none)halted\.img(\d+)_eps([\d.]+)_T(\d+)", case)
        x = pictures(golden, int(match[2]))
        latents = model.base_latents(x, drawn(golden, case))
        reading = model.read(x, latents, torch.tensor([float(match[3])]), int(match[4]))
        kept = torch.full_like(reading.kept, match[1] == "none")
        assert int(kept.sum()) == int(golden[f"{case}.kept_count"])
        for drop in (False, True):
            rebuilt = model.rebuild(reading.vectors, kept, drop)
            assert_close(case, rebuilt[:, ::8], golden[f"{case}.dec_out_sub8"])
            assert_close(
                case, model.pictures(rebuilt)[:, :, ::8, ::8], golden[f"{case}.recon_sub8"], PICTURES
            )


def check_training(model: Karl, golden: Golden, case: str) -> None:
    """Both readings of a recorded iteration, its loss and its gradients."""
    want = golden.sub(f"{case}.")
    x = pictures(golden, *want["images"].tolist())
    permutation, choices = want["rng.0000.randperm"], want["rng.0001.multinomial"]
    slots = slot_counts()[int(permutation[0])]
    beyond = max(0, model.config.slots - slots)
    assert (slots, beyond) == (int(want["T"]), int(want["D"]))
    assert len(permutation) == len(slot_counts())
    curriculum, quality = Curriculum(), torch.tensor(BINS)[choices]
    assert_close("asked", quality, want["phase1.eps_wanted"])
    if "rng.0001.multinomial.p" in want:  # of single pictures
        assert_close("weights", curriculum.weights, want["rng.0001.multinomial.p"].flatten())
    with torch.no_grad():
        latents = model.base_latents(x, drawn(golden, case))
        codes = model.base.codes(latents) if isinstance(model.base, MaskGITAutoencoder) else None
    if codes is not None:
        assert_equal("targets", codes, want["target_indices"])
    total, errors = torch.zeros(()), quality
    for phase, count, wish, halted in ((1, slots, quality, 0), (2, model.config.slots, None, beyond)):
        recorded = want.sub(f"phase{phase}.")
        if wish is None:
            wish = errors
            assert_close("errors", errors, recorded["l1_of_phase1"], PICTURES)
        with watched(**encoder_parts(model)) as seen:
            reading = model.read(x, latents, wish, count)
        check_reading(f"{case} {phase}", model, reading, seen, recorded)
        assert_close("bin", torch.tensor(BINS)[quality_bin(wish)], recorded["condition_bin"])
        assert_close("condition", model.encoder.qualities[quality_bin(wish)], recorded["enc_cond"])
        kept = torch.ones_like(reading.kept) if phase == 1 else reading.kept
        rebuilt = model.decoder(reading.vectors, kept, tiled=phase == 2)
        assert_close(f"{case} {phase} rebuilt", rebuilt[:, ::8], recorded["dec_out_sub8"])
        terms = reconstruction_terms(model, rebuilt, latents, codes) | quantizer_terms(reading)
        terms |= halting_terms(reading.halting, halted)
        if reading.quantized is not None:
            pieces = {
                "vq_codebook": reading.quantized.losses["codebook"],
                "vq_commit_x0.25": 0.25 * reading.quantized.losses["commitment"],
            }
            for key, value in pieces.items():
                assert_close(key, value, recorded[f"loss.{key}"])
        names = {key.removeprefix("loss.") for key in recorded if key.startswith("loss.")}
        assert names - {"vq_codebook", "vq_commit_x0.25"} == terms.keys()
        for key, value in terms.items():
            assert_close(f"{case} {phase} {key}", value, recorded[f"loss.{key}"])
        total = total + sum(terms.values())
        if phase == 1:
            with torch.no_grad():
                made = model.pictures(rebuilt)
            assert_close("pictures", made[:, :, ::8, ::8], recorded["recon_sub8"], PICTURES)
            errors = pixel_errors(x, made)
            curriculum.update(errors)
    assert_close("weights after", curriculum.weights, want["sampling_prob_after"])
    assert_close("loss", total, want["total_loss"])
    check_gradients(model, total, want)


def check_gradients(model: Karl, loss: Tensor, want: Golden) -> None:
    weights = {
        f"tokenizer.{name}": weight
        for name, weight in model.named_parameters()
        if not name.startswith("base.")
    }
    gradients = dict(
        zip(weights, torch.autograd.grad(loss, list(weights.values()), allow_unused=True), strict=True)
    )
    found = split({k: v for k, v in gradients.items() if v is not None}, karl_table(model.config))
    for key, recorded in want.items():
        if match := re.fullmatch(r"(grad|grad_norms)\.(.+)", key):
            value = found[match[2]] if match[1] == "grad" else found[match[2]].norm()
            assert_close(f"gradient {match[2]}", value, recorded, GRADIENT_TOLERANCE)
    total = torch.stack([value.norm() for value in found.values()]).norm()
    assert_close("norm of all gradients", total, want["grad_total_norm"], GRADIENT_TOLERANCE)


def test_training(model, golden):
    names = sorted({".".join(key.split(".")[:2]) for key in golden if key.startswith("train.")})
    assert names
    for case in names:
        check_training(model, golden, case)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_depend_on_each_other(model, golden):
    x = pictures(golden, *range(len(golden["img_u8"])))
    latents, quality = model.base_latents(x), torch.tensor([0.01, 0.05, 0.2])[: len(x)]
    together = model.read(x, latents, quality)
    for row in range(len(x)):
        alone = model.read(x[[row]], latents[[row]], quality[[row]])
        assert_equal("kept", together.kept[[row]], alone.kept)
        rebuilt = model.rebuild(together.vectors, together.kept)[[row]]
        assert_close("rebuilt", rebuilt, model.rebuild(alone.vectors, alone.kept))


def test_the_converter_is_its_own_inverse(model, golden):
    state, back = golden.sub("sd."), to_karl(model)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_slightly_wrong_weights_fail(golden):
    names = [name for name in golden.sub("sd.") if name.endswith("weight") and "base_tokenizer" not in name]
    case = cases(golden)[0]
    for name in names[::5]:
        weight = golden[f"sd.{name}"].clone()
        weight.view(-1)[::2] *= 1.01
        with pytest.raises(AssertionError):
            check_case(converted(golden, **{name: weight}), golden, case)


def test_parameters_of_the_published_sizes(golden):
    counts = golden.info.get("published_sizes") or pytest.skip("the recording holds no published sizes")
    for name, facts in counts.items():
        size, base, kind = name.removeprefix("karl_").split(".")
        config = registry.lookup("tokenizer", f"karl_{size}")()
        if base == "vae":
            config = config.replace(base=KLTokenizerConfig().to_dict() | {"class": "KLTokenizerConfig"})
        with torch.device("meta"):
            tokenizer = Karl(config)
        assert kind == "quantized"
        assert sum(p.numel() for p in tokenizer.parameters()) == facts["total"], name
        tensors = len(tokenizer.state_dict()) - 1  # the record of use of codes is ours
        assert tensors == facts["tensors_in_state_dict_without_gan"], name
