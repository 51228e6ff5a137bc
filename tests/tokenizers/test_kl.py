"""KL tokenizers: sizes, round trips, the posterior, losses, training and its scale, cached tokens, conversion."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from command import command, failing, picture, ten_pictures, tiny_kl_tokenizer, tiny_tokenizer
from fitting import check_fits, clips, pictures
from scripted import scripts
from tiny_net import TinyNet

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, open_checkpoint, save_parts
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.data.codes import Codes
from arzoo.data.encoding import code_key, encode_split
from arzoo.data.transforms import composite, to_model
from arzoo.data.views import Views
from arzoo.models.common.convert import convert_state
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.kl.convert import from_ldm_kl, is_ldm_kl, kl_table, to_ldm_kl
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.kl.posterior import Posterior
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe

TINY = KLTokenizerConfig(
    image_size=16, widths=(8, 16), decoder_widths=(8, 24), encoder_blocks=1, decoder_blocks=1, channels=4,
    unshuffle=2, scale=0.5, shift=0.1,
)  # fmt: skip
PUBLISHED = TINY.replace(unshuffle=1, decoder_widths=(), image_size=8, shift=0.0)
LDM = {"encoder_attention": "deepest", "decoder_attention": "deepest"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def standard(*shape: int) -> Posterior:
    return Posterior.of(torch.zeros(shape[0], 2 * shape[1], *shape[2:]))


def test_published_size():
    with torch.device("meta"):
        model = registry.create("tokenizer", "kl_16")
    millions = [
        sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.encoder, model.decoder)
    ]
    assert [round(count, 3) for count in millions] == [66.456, 28.266, 38.189]
    assert (model.spec.layout.shape, model.spec.channels, len(model.state_dict())) == ((1, 16, 16), 16, 312)


@pytest.mark.parametrize("name", registry.names("tokenizer", "kl_*"))
def test_every_preset_says_its_own_grid(name):
    config = registry.lookup("tokenizer", name)()
    with torch.device("meta"):
        model = config.build().eval()
        x = torch.empty(2, 3, 1, *model.image_size)
        tokens = model.encode(x)
        assert tokens.values.shape == (2, model.spec.layout.size, model.spec.channels)
        assert model(x)[0].shape == x.shape


@pytest.mark.parametrize("attention", ["none", "middle", "deepest"])
@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_round_trip_shapes(attention, unshuffle):
    model = TINY.replace(encoder_attention=attention, unshuffle=unshuffle).build().eval()
    tokens = model.encode(clips())
    assert (tokens.values.shape, tokens.values.dtype) == ((4, model.spec.layout.size, 4), torch.float32)
    assert model.decode(tokens).shape == (4, 3, 1, 16, 16)


def test_tokens_are_shifted_and_scaled_latents_in_raster_order():
    model, z = TINY.build(), torch.randn(2, 4, 4, 4)
    tokens = model.scaled(z)
    torch.testing.assert_close(tokens[1, 6], (z[1, :, 1, 2] - 0.1) * 0.5)
    torch.testing.assert_close(model.latents(tokens, (4, 4)), z)
    decoded = as_pictures(model.decode(Tokens.of(tokens)))
    torch.testing.assert_close(decoded, model.decode_latents(z), atol=1e-5, rtol=0)


def test_encoding_gives_the_mean_or_a_sample_of_its_own_seed():
    model, x = TINY.build().eval(), clips()
    tokens, spread = model.distribution(x)
    mean = tokens.values
    assert torch.equal(model.encode(x).values, mean)
    assert (spread > 0).all()
    sample = model.encode(x, Draws([5, 6, 7, 8])).values
    noise = (sample - mean) / spread
    assert 0.8 < noise.std() < 1.2
    torch.testing.assert_close(model.encode(x[2:3], Draws([7])).values, sample[2:3], atol=1e-5, rtol=0)


def test_reconstructions_are_of_the_mean_or_in_training_of_samples():
    model, x = TINY.build().eval(), clips()
    torch.testing.assert_close(model(x)[0], model.decode(model.encode(x)), atol=1e-5, rtol=0)
    assert not torch.equal(model.train()(x)[0], model(x)[0])


def test_wrong_inputs_say_what_is_allowed():
    model = TINY.build()
    with pytest.raises(ArzooError, match="multiples, H of 4, W of 4"):
        model.encode(torch.zeros(1, 3, 1, 18, 16))
    for shape in ((1, 15, 4), (1, 16, 5)):
        with pytest.raises(ArzooError, match=r"are vectors \(B, 16, 4\), got \(1, 1"):
            model.decode(Tokens.of(torch.zeros(*shape)))
    with pytest.raises(ArzooError, match="scale of latents must be positive"):
        TINY.replace(scale=0.0)
    with pytest.raises(ArzooError, match="do not divide"):
        TINY.replace(image_size=18)


def test_posterior():
    assert standard(2, 3, 4, 4).kl().tolist() == [0, 0]
    moments = torch.randn(2, 6, 4, 4)
    found = Posterior.of(moments)
    theirs = torch.distributions.Normal(found.mean, found.std)
    expected = torch.distributions.kl_divergence(theirs, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(found.kl(), expected)
    assert Posterior.of(100 * moments).logvar.aminmax() == (-30, 20)
    assert Posterior.of(moments.bfloat16()).mean.dtype == torch.float32
    assert Posterior.figures([found, standard(2, 3, 4, 4)])["kl"] == pytest.approx(float(expected.sum()) / 4)


def test_the_divergence_is_weighed_as_in_sums_over_pixels_and_latents():
    x, y, posterior = pictures(2), pictures(2), Posterior.of(torch.randn(2, 6, 4, 4))
    config = TokenizerLossConfig(l1=1.0, l2=0.0, perceptual=0.0, kl=1e-2, adversarial=0.0)
    loss, terms = config.build().generator(x, y, posterior, None, 0)
    published = ((x - y).abs().sum() + 1e-2 * posterior.kl().sum()) / 2
    assert float(loss) * x[0].numel() == pytest.approx(float(published), rel=1e-5)
    assert set(terms) == {"l1", "l2", "kl"}
    assert "kl" not in config.replace(kl=0.0).build().generator(x, y, posterior, None, 0)[1]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_losses_fall_in_a_few_steps(precision):
    loss = TokenizerLossConfig(l1=1.0, perceptual=0.0, kl=1e-4, adversarial=0.0)
    terms = check_fits(TINY.build(), loss, precision)
    assert terms == {"l1", "l2", "kl"}


def test_calibration_makes_tokens_standard():
    model, batches = TINY.build().eval().requires_grad_(False), [clips(16), clips(7)]
    model.calibrate(batches)
    tokens = torch.cat([model.encode(x, Draws(range(len(x)))).values for x in batches])
    assert (float(tokens.mean()), float(tokens.std())) == pytest.approx((0, 1), abs=0.05)
    again = KLTokenizerConfig.from_dict(model.config.to_dict()).build()
    assert (again.config.scale, again.config.shift) == (model.config.scale, model.config.shift) != (0.5, 0.1)


def micro_recipe():
    """The recipe of kl_emoji64 on the smallest preset and few drawings."""
    small = {
        "model": "kl_4_micro",
        "data": "emoji32",
        "limit": 60,
        "optim": {"lr": 2e-3, "warmup": 3, "ema": 0.8},
    }
    pace = {"steps": 24, "batch": 8, "log_every": 1, "preview_every": 24, "save_every": 12}
    loss = {"adversarial": 0.1, "adversarial_start": 8, "discriminator_width": 8, "discriminator_layers": 2}
    return load_recipe("kl_emoji64", {**small, "loss": loss, "run": pace})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "kl"
    return out, run(micro_recipe(), out)


def test_training_lowers_the_loss_and_reports_the_divergence(trained):
    out, result = trained
    lines = [json.loads(line) for line in (out / "log.jsonl").open()]
    assert lines[-1]["l1"] < 0.8 * lines[0]["l1"]
    assert not any("code" in name for line in lines for name in line)
    assert "discriminator_loss" in lines[-1]
    assert {"validation_psnr", "validation_perceptual", "validation_kl"} == set(result["metrics"])
    assert result["metrics"]["validation_kl"] > 0


def test_stopping_and_continuing_changes_nothing(trained, tmp_path):
    for steps in (12, 24):
        run(micro_recipe(), tmp_path / "parts", max_steps=steps)
    once, twice = (open_checkpoint(folder / "checkpoint") for folder in (trained[0], tmp_path / "parts"))
    assert once.parts == twice.parts
    assert once.config("tokenizer") == twice.config("tokenizer")


def test_a_trained_checkpoint_knows_its_scale(trained):
    checkpoint, parts = load_parts(trained[1]["checkpoint"], "tokenizer")
    model, data = parts["tokenizer"].requires_grad_(False), micro_recipe().build().train
    assert (checkpoint.index["spec"]["channels"], model.config.scale == 1.0) == (4, False)
    tokens = model.encode(as_clips(to_model(composite(data.images))), Draws(range(len(data)))).values
    assert (float(tokens.mean()), float(tokens.std())) == pytest.approx((0, 1), abs=0.05)


def test_save_and_load(tmp_path):
    model, x = TINY.build().eval(), clips()
    save_parts(tmp_path / "kl", "tokenizer", {"tokenizer": model})
    loaded = load_parts(tmp_path / "kl", "tokenizer")[1]["tokenizer"]
    assert loaded.config == TINY
    assert torch.equal(loaded.encode(x).values, model.encode(x).values)


def test_cached_tokens_are_sampled_anew_each_time(tmp_path):
    model, data = TINY.build().eval(), ten_pictures()
    codes = encode_split(tmp_path / "codes", model, "hash", data, Views("augment", 1), batch=4)
    everything = torch.arange(10)
    tokens, spread = model.distribution(as_clips(to_model(data.images)))
    mean, spread = tokens.values.detach(), spread.detach()
    torch.testing.assert_close(codes.rows(torch.zeros_like(everything), everything), mean, atol=1e-5, rtol=0)
    assert codes.rows(torch.ones_like(everything), everything).shape == (10, 16, 4)
    variants, rows = torch.zeros(400, dtype=torch.long), torch.full((400,), 3)
    drawn = codes.draw(variants, rows, Draws(range(400)))
    assert torch.equal(drawn, codes.draw(variants, rows, Draws(range(400))))
    torch.testing.assert_close(drawn.std(0) / spread[3], torch.ones(16, 4), atol=0.2, rtol=0)
    assert ((drawn.mean(0) - mean[3]) / spread[3]).abs().max() < 5 / 400**0.5
    half = codes.draw(variants, rows, Draws(range(400)), noise=0.5)
    torch.testing.assert_close(half - mean[3], (drawn - mean[3]) / 2)
    assert torch.equal(codes.draw(variants, rows, Draws(range(400)), noise=0.0), codes.rows(variants, rows))


def test_codes_are_drawn_as_they_are(tmp_path):
    model = load_parts(tiny_tokenizer(tmp_path / "tok"))[1]["tokenizer"]
    codes = encode_split(tmp_path / "codes", model, "hash", ten_pictures(), Views())
    view, rows = torch.zeros(2).long(), torch.tensor([7, 2])
    assert torch.equal(codes.draw(view, rows, Draws(range(2))), codes.rows(view, rows))


def test_the_same_weights_in_another_scale_do_not_share_cached_tokens():
    keys = [code_key(TINY.replace(scale=s).build(), "hash", ten_pictures(), Views()) for s in (1.0, 2.0)]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"settings"}


@pytest.mark.parametrize(
    "config",
    [
        PUBLISHED,
        PUBLISHED.replace(**LDM, widths=(8, 8, 16), decoder_blocks=2),
        PUBLISHED.replace(encoder_attention="middle", channels=3, unshuffle=2),
        PUBLISHED.replace(encoder_attention="none", decoder_attention="none", decoder_widths=(8, 24)),
    ],
)
def test_converter_reads_sizes_from_shapes(config):
    state = to_ldm_kl(config.build())
    assert is_ldm_kl(state)
    found = from_ldm_kl(state, image_size=8, scale=0.5).parts["tokenizer"]
    assert found.config == config
    assert all(torch.equal(value, state[name]) for name, value in to_ldm_kl(found).items())


def test_converter_is_strict():
    state = to_ldm_kl(PUBLISHED.build())
    for name in list(state)[::4]:
        with pytest.raises(ArzooError):
            from_ldm_kl({key: value for key, value in state.items() if key != name}, 8, 0.5)
    with pytest.raises(ArzooError, match="unknown: extra"):
        from_ldm_kl({**state, "extra": torch.zeros(1)}, 8, 0.5)
    with pytest.raises(ArzooError, match="do not fit"):
        from_ldm_kl({**state, "encoder.norm_out.bias": torch.zeros(3)}, 8, 0.5)
    with pytest.raises(ArzooError, match=r"scale of these latents.*--set scale="):
        from_ldm_kl(state, 8)


def test_loss_networks_of_training_checkpoints_are_dropped():
    state = to_ldm_kl(PUBLISHED.build())
    found = convert_state({**state, "loss.logvar": torch.zeros(())}, image_size=8, scale=0.5)
    assert (found.source, set(found.parts)) == ("ldm_kl", {"tokenizer"})
    vq = {**state, "quantize.embedding.weight": torch.zeros(2, 2)}
    with pytest.raises(ArzooError, match="not recognized"):
        convert_state(vq, scale=0.5)


def test_only_the_published_size_has_a_known_scale():
    with torch.device("meta"):
        model = registry.create("tokenizer", "kl_16")
        state = {
            join.names[0]: model.state_dict()[name[10:]] for name, join in kl_table(model.config).items()
        }
        assert from_ldm_kl(state).parts["tokenizer"].config == model.config
        assert from_ldm_kl(state, image_size=128).parts["tokenizer"].spec.layout.shape == (1, 8, 8)


def test_convert_command(capsys, tmp_path):
    torch.save({"model": to_ldm_kl(PUBLISHED.build())}, tmp_path / "kl.ckpt")
    options = ["convert", tmp_path / "kl.ckpt", tmp_path / "out", "--set", "image_size=8"]
    failing(command(capsys, *options), "--set scale=")
    found = command(capsys, *options, "scale=0.5", "--json").json
    assert (found["kind"], found["parts"]["tokenizer"]["class"]) == ("tokenizer", "KLTokenizer")
    assert load_parts(tmp_path / "out")[1]["tokenizer"].config == PUBLISHED
    assert open_checkpoint(tmp_path / "out").index["spec"]["channels"] == 4


def test_tokenize_command(capsys, tiny_data, tmp_path):
    tokenizer = tiny_kl_tokenizer(tmp_path / "tok")
    options = ["tokenize", "ten", "--tokenizer", tokenizer, "--out", tmp_path / "codes", "--variants", 1]
    assert "16 tokens of 3 numbers each" in command(capsys, *options).out
    found = command(capsys, *options, "--overwrite", "--json").json
    assert (found["train"]["shape"], found["validation"]["shape"]) == ([2, 8, 16, 3], [1, 2, 16, 3])
    assert Codes.load(tmp_path / "codes" / "train").spec.channels == 3


def test_reconstruct_command(capsys, tmp_path):
    tokenizer, file = tiny_kl_tokenizer(tmp_path / "tok"), picture(tmp_path / "p.png")
    found = command(
        capsys, "reconstruct", file, "--tokenizer", tokenizer, "--out", tmp_path / "a", "--json"
    ).json
    assert 0 < found["mean_psnr"] < 40


def test_models_command(capsys):
    found = command(capsys, "models", "kl_*", "--json").json
    assert list(found["tokenizer"]) == ["kl_4_micro", "kl_4_small", "kl_8_small", "kl_16"]
    assert "kl_emoji64" in found["recipe"]


@pytest.mark.parametrize("name", ["vq_4_micro", "kl_4_micro"])
def test_results_of_either_kind(name):
    model, data = registry.create("tokenizer", name).eval(), ten_pictures(32)
    reference = SimpleNamespace(
        net=TinyNet().eval(),
        validation=data,
        subset=data,
        rest=None,
        scores=lambda found, rest: {"n": found.count},
    )
    with scripts("scripts/dev") as load:
        found = load("results").measure_tokenizer(model, reference)
    assert found["floor"] == {"n": 10}
    assert found["validation"]["psnr"]["value"] > 0
    assert ("codes_used" in found["validation"]) == model.spec.discrete
