"""VQ tokenizers: sizes, round trips, upkeep of the codebook, losses, perceptual distance, conversion."""

from __future__ import annotations

import io
import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fitting import check_fits, clips, pictures
from torchvision.models import vgg16

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state
from arzoo.models.vision.perceptual import EfficientNetLite0, SqueezeNet, Vgg16, _ArraysOnly
from arzoo.tokenizers.common import perceptual
from arzoo.tokenizers.common.discriminator import PatchDiscriminator
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.losses import TokenizerLoss, adaptive_weight
from arzoo.tokenizers.common.perceptual import PerceptualDistance
from arzoo.tokenizers.quantizers.base import EMPTY, perplexity
from arzoo.tokenizers.quantizers.vq import VectorQuantizer, entropy_term
from arzoo.tokenizers.vq.convert import from_llamagen_vq, is_llamagen_vq, load_llamagen_vq, to_llamagen_vq
from arzoo.tokenizers.vq.network import VQTokenizerConfig

TINY = VQTokenizerConfig(
    image_size=16, widths=(8, 16), decoder_widths=(8, 24), encoder_blocks=1, decoder_blocks=1, latent=8, unshuffle=2,
    vocab=32, code_channels=4,
)  # fmt: skip


RESIDUAL = TINY.replace(codebooks=3)
BOTH = pytest.mark.parametrize("config", [TINY, RESIDUAL], ids=["one code", "residual codes"])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def distance():
    return PerceptualDistance("squeezenet")


@pytest.mark.parametrize(("name", "count", "grid"), [("vq_16", 71_883_403, 16), ("vq_8", 70_109_835, 32)])
def test_published_sizes(name, count, grid):
    with torch.device("meta"):
        model = registry.create("tokenizer", name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.spec.layout.shape == (1, grid, grid)
    assert model.spec.vocab == 16384


@pytest.mark.parametrize("name", [*registry.names("tokenizer", "vq_*"), *registry.names("tokenizer", "rq_*")])
def test_every_preset_says_its_own_grid(name):
    config = registry.lookup("tokenizer", name)()
    with torch.device("meta"):
        model = config.build().eval()  # residual codes are counted in training, which needs numbers
        x = torch.empty(2, 3, 1, *model.image_size)
        tokens = model.encode(x)
        shape = (2, model.spec.layout.size, *model.spec.token_shape)
        assert (tokens.layout, tokens.values.shape) == (model.spec.layout, shape)
        assert model(x)[0].shape == x.shape


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_round_trip_shapes(attention, unshuffle):
    model = TINY.replace(attention=attention, unshuffle=unshuffle).build().eval()
    codes = model.encode(clips())
    assert (codes.values.shape, codes.values.dtype) == ((4, model.spec.layout.size), torch.int64)
    assert model.decode(codes).shape == (4, 3, 1, 16, 16)


@BOTH
def test_reconstruction_is_the_decoded_codes(config):
    model = config.build().eval()
    reconstruction, quantised = model(clips())
    codes = Tokens.of(quantised.codes.flatten(1, 2))
    assert codes.values.shape[2:] == model.spec.token_shape
    torch.testing.assert_close(model.decode(codes), reconstruction, atol=1e-4, rtol=0)


def test_every_residual_code_brings_the_latents_nearer():
    model, x = RESIDUAL.build(), clips()
    latents = model.latents(x[:, :, 0]).detach()
    model.quantizer.restart(latents, torch.Generator().manual_seed(0), everything=True)
    for _ in range(300):  # to the averages of what the codes stand for
        model.quantizer(latents)
        model.quantizer.end_step()
    codes = model.eval().encode(x).values.unflatten(1, latents.shape[1:3])
    errors = [
        float((model.quantizer.lookup(codes[..., :count]) - latents).square().mean()) for count in (1, 2, 3)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0]
    with pytest.raises(ArzooError, match="at least one code, got codebooks=0"):
        TINY.replace(codebooks=0)


def test_wrong_inputs_say_what_is_allowed():
    model = TINY.build()
    with pytest.raises(ArzooError, match=r"\(1, 18, 16\) pixels .* multiples, H of 4, W of 4"):
        model.encode(torch.zeros(1, 3, 1, 18, 16))
    with pytest.raises(ArzooError, match=r"clips \(B, 3, T, H, W\), got \(1, 3, 16, 16\).*as_clips"):
        model.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ArzooError, match=r"are codes \(B, 16\), got \(1, 15\)"):
        model.decode(Tokens.of(torch.zeros(1, 15, dtype=torch.long)))
    with pytest.raises(ArzooError, match=r"codes \(B, 16\), got \(1, 16\) torch.float32"):
        model.decode(Tokens.of(torch.zeros(1, 16)))
    for code in (-1, 32):
        with pytest.raises(ArzooError, match="codes must be 0 to 31"):
            model.decode(Tokens.of(torch.full((1, 16), code)))
    with pytest.raises(ArzooError, match="same levels"):
        TINY.replace(decoder_widths=(8,))
    with pytest.raises(ArzooError, match="do not divide"):
        TINY.replace(image_size=18)


def test_codes_do_not_depend_on_the_precision_of_the_surroundings():
    quantizer, h = VectorQuantizer(512, 8).eval(), torch.randn(2, 16, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(h)
    assert found.vectors.dtype == torch.float32
    assert torch.equal(found.codes, quantizer(h).codes)


def test_straight_through_gradient():
    h = torch.randn(1, 2, 2, 4, requires_grad=True)
    z = F.normalize(h, dim=-1)
    (expected,) = torch.autograd.grad(z.sum(), h)
    (found,) = torch.autograd.grad(VectorQuantizer(8, 4)(h).vectors.sum(), h)
    torch.testing.assert_close(found, expected)


def test_record_of_uses():
    quantizer = VectorQuantizer(8, 4, history=6)
    assert quantizer.health() == {"codes_used": 0.0, "codebook_perplexity": 0.0}
    quantizer.remember(torch.tensor([1, 2, 2, 1]))
    assert quantizer.recent.tolist() == [EMPTY, EMPTY, 1, 2, 2, 1]
    assert quantizer.health() == pytest.approx({"codes_used": 2.0, "codebook_perplexity": 2.0})
    quantizer.remember(torch.arange(8))
    assert quantizer.recent.tolist() == [2, 3, 4, 5, 6, 7]
    quantizer.eval()(torch.randn(1, 2, 2, 4))
    assert quantizer.recent.tolist() == [2, 3, 4, 5, 6, 7]
    assert perplexity(torch.full((16,), 1 / 16)) == pytest.approx(16)


def test_dead_codes_restart_from_latents():
    quantizer = VectorQuantizer(8, 4, history=16)
    quantizer.remember(torch.tensor([0, 3] * 8))
    before, latents = quantizer.table.clone(), torch.randn(2, 3, 3, 4)
    rng = torch.Generator().manual_seed(0)
    assert quantizer.restart(latents, rng) == [1, 2, 4, 5, 6, 7]
    moved = (quantizer.table != before).any(1)
    assert moved.tolist() == [False, True, True, False, True, True, True, True]
    pool = F.normalize(latents.reshape(-1, 4), dim=-1)
    assert ((quantizer.table[moved] @ pool.T).amax(1) > 0.99).all()
    assert quantizer.restart(latents, rng, everything=True) == list(range(8))
    assert torch.pdist(quantizer.table).min() > 0
    assert quantizer.restart(latents[:, :1, :1], rng, everything=True) == list(
        range(8)
    )  # more codes than latents


def test_entropy_rewards_decided_places_and_even_use():
    decided_and_even = 4 * (1 - torch.eye(4))
    undecided, all_alike = torch.ones(4, 4), torch.tensor([[0.0, 4, 4, 4]]).expand(4, 4)
    assert entropy_term(decided_and_even) == pytest.approx(-np.log(4), abs=1e-3)
    assert entropy_term(undecided) == pytest.approx(0, abs=1e-3)
    assert entropy_term(all_alike) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_losses_fall_in_a_few_steps(precision):
    loss = TokenizerLossConfig(l1=1.0, perceptual=0.0, entropy=0.01, adversarial=0.0)
    terms = check_fits(TINY.build().to(memory_format=torch.channels_last), loss, precision)
    assert terms == {"l1", "l2", "codebook", "commitment", "entropy"}


def test_adversarial_terms_start_late():
    config = TokenizerLossConfig(perceptual=0.0, adversarial=0.5, adversarial_start=3)
    criterion, model, x = config.build(), TINY.build(), pictures()
    discriminator = PatchDiscriminator(width=4, layers=1)
    reconstruction, quantised = model(as_clips(x))
    reconstruction = as_pictures(reconstruction)
    fake, real = discriminator(reconstruction), discriminator(x)
    assert fake.shape == (4, 1, 6, 6)
    losses = [criterion.generator(x, reconstruction, quantised, fake, step)[0] for step in (0, 2, 3)]
    assert losses[0] == losses[1]
    assert losses[2].item() == pytest.approx(losses[1].item() - 0.5 * fake.mean().item(), abs=1e-6)
    assert criterion.discriminator(real, fake, 2) == 0
    assert criterion.discriminator(torch.full((2,), 2.0), torch.full((2,), -2.0), 3) == 0
    assert criterion.discriminator(torch.zeros(2), torch.zeros(2), 3) == 0.5
    assert "adversarial" not in criterion.generator(x, reconstruction, quantised, None, 3)[1]


def test_adaptive_weight_balances_gradients():
    weight = torch.ones(3, requires_grad=True)
    assert adaptive_weight(6 * weight.sum(), 2 * weight.sum(), weight) == pytest.approx(3, rel=1e-3)
    config = TokenizerLossConfig(perceptual=0.0, adversarial=0.5, adversarial_start=0, adaptive=True)
    model, x, discriminator = TINY.build(), pictures(), PatchDiscriminator(width=4, layers=1)
    reconstruction, quantised = model(as_clips(x))
    reconstruction = as_pictures(reconstruction)
    loss, _ = config.build().generator(
        x, reconstruction, quantised, discriminator(reconstruction), 0, model.decoder.last_layer
    )
    loss.backward()
    assert model.encoder.conv_in.weight.grad.isfinite().all()


def test_a_perceptual_weight_needs_a_network():
    with pytest.raises(ArzooError, match="set the weight to 0"):
        TokenizerLoss(TokenizerLossConfig())


def test_perceptual_distance_rises_with_blur(distance):
    x = (torch.rand(2, 3, 8, 8) * 2 - 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    found = [distance(x, x)]
    for size in (3, 7, 15):
        found.append(distance(F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False), x))
    assert found[0].tolist() == [0, 0]
    assert all((b > a).all() for a, b in itertools.pairwise(found))
    assert found[1].shape == (2,)


def test_perceptual_gradient_is_finite_on_flat_pictures(distance):
    x, y = torch.zeros(1, 3, 32, 32, requires_grad=True), torch.ones(1, 3, 32, 32)
    distance(x, y).sum().backward()
    assert x.grad.isfinite().all()
    assert not any(p.requires_grad for p in distance.parameters())
    assert not distance.train().training


def test_perceptual_networks(distance):
    assert distance.name == "squeezenet"
    other = PerceptualDistance("efficientnet_lite0")
    x = pictures(1, 64)
    assert 0 == other(x, x).item() < other(x, -x).item()
    with pytest.raises(UnknownName, match="Did you mean 'squeezenet'"):
        PerceptualDistance("squeezenett")


def vgg() -> Vgg16:
    """The network with random weights."""
    net = Vgg16.__new__(Vgg16)
    torch.nn.Module.__init__(net)
    net.layers = vgg16(weights=None).features[: max(Vgg16.taps) + 1]
    net.shift = net.scale = torch.ones(3, 1, 1)
    return net


@pytest.mark.parametrize("build", [SqueezeNet, EfficientNetLite0, vgg])
def test_smallest_pictures_of_perceptual_networks(build):
    net, other = build(), 64

    def takes(side: int) -> bool:
        try:
            return all(f.numel() for f in net.features(torch.zeros(1, 3, side, other)))
        except RuntimeError:
            return False

    with torch.inference_mode():
        assert min(side for side in range(1, 33) if takes(side)) == net.least_side
        assert all(map(takes, range(net.least_side, 33)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_smallest_pictures_of_discriminators(layers):
    discriminator = PatchDiscriminator(width=4, layers=layers)
    least = discriminator.least_side
    assert discriminator(torch.zeros(2, 3, least, least)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        discriminator(torch.zeros(2, 3, least - 1, least))


def test_a_picture_too_small_for_the_distance_is_refused(distance):
    distance.require((17, 40), "")
    with pytest.raises(
        ArzooError, match=r"of 40 x 16 pixels .* squeezenet, which takes .* 17 pixels. Crop less"
    ):
        distance.require((40, 16), "Crop less.")


def test_without_any_network_the_message_has_all_reasons(monkeypatch):
    def absent(self):
        raise FileNotFoundError("no weights here")

    nets = {"only": type("Absent", (torch.nn.Module,), {"__init__": absent})}
    monkeypatch.setattr(perceptual, "NETS", nets)
    with pytest.raises(ArzooError, match="no weights here"):
        PerceptualDistance()
    nets["second"] = EfficientNetLite0
    with pytest.warns(UserWarning, match="distances are those of second: no weights here"):
        PerceptualDistance()


def test_weight_files_hold_arrays_only():
    arrays = pickle.dumps({"a": [np.arange(3.0)]})
    assert _ArraysOnly(io.BytesIO(arrays)).load()["a"][0].tolist() == [0, 1, 2]
    with pytest.raises(ArzooError, match="only numpy arrays"):
        _ArraysOnly(io.BytesIO(pickle.dumps(print))).load()


@BOTH
def test_save_and_load(tmp_path, config):
    model, x = config.build(), clips()
    model(x)  # fills the record of uses
    save_parts(tmp_path / "vq", "tokenizer", {"tokenizer": model})
    loaded = load_parts(tmp_path / "vq", "tokenizer")[1]["tokenizer"]
    assert loaded.config == config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_half_precision_storage_keeps_the_record(tmp_path):
    model = TINY.replace(vocab=4096).build()
    model.quantizer.remember(torch.tensor([4095, 2049]))
    save_parts(tmp_path / "vq", "tokenizer", {"tokenizer": model}, bits=16)
    assert load_parts(tmp_path / "vq")[1]["tokenizer"].quantizer.recent[-2:].tolist() == [4095, 2049]


PUBLISHED = TINY.replace(unshuffle=1, decoder_widths=(), image_size=8)


@pytest.mark.parametrize(
    "config", [PUBLISHED, PUBLISHED.replace(widths=(8, 8, 16), decoder_blocks=2, attention=False)]
)
def test_converter_reads_sizes_from_shapes(config):
    state = to_llamagen_vq(config.build())
    assert is_llamagen_vq(state)
    found = from_llamagen_vq(state, image_size=8).parts["tokenizer"]
    assert found.config == config
    assert all(torch.equal(value, state[name]) for name, value in to_llamagen_vq(found).items())


def test_converter_is_strict():
    state = to_llamagen_vq(PUBLISHED.build())
    for name in list(state)[::4]:
        with pytest.raises(ArzooError):
            from_llamagen_vq({key: value for key, value in state.items() if key != name}, image_size=8)
    with pytest.raises(ArzooError, match="unknown: extra"):
        from_llamagen_vq({**state, "extra": torch.zeros(1)}, image_size=8)
    with pytest.raises(ArzooError, match="do not fit"):
        from_llamagen_vq({**state, "encoder.norm_out.bias": torch.zeros(3)}, image_size=8)


@pytest.mark.parametrize("container", ["model", "state_dict", None])
def test_published_files(tmp_path, container):
    state = to_llamagen_vq(PUBLISHED.build())
    path = tmp_path / "vq.pt"
    torch.save({container: state, "steps": 1} if container else state, path)
    assert load_llamagen_vq(path, image_size=8).config == PUBLISHED
    averaged = {name: value + 1 if name == "quant_conv.bias" else value for name, value in state.items()}
    torch.save({"model": state, "ema": averaged}, path)
    assert torch.equal(load_llamagen_vq(path, image_size=8).to_code.bias, averaged["quant_conv.bias"])
    with pytest.raises(ArzooError, match=r"missing\.pt"):
        load_llamagen_vq(tmp_path / "missing.pt")


def test_registered_as_a_source():
    found = convert_state(to_llamagen_vq(PUBLISHED.build()), image_size=8)
    assert (found.source, set(found.parts)) == ("llamagen_vq", {"tokenizer"})
