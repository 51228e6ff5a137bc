"""OmniTokenizer: published sizes, what its settings do, refusals, training."""

from __future__ import annotations

import copy

import pytest
import torch
from fitting import check_fits, moving

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.clips import as_clips
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.omnitok.layers import SCALE, Attention, ClipConvolution, distance_bias
from arzoo.tokenizers.omnitok.network import OmniTokenizerConfig, from_patches, to_patches
from arzoo.tokenizers.omnitok.presets import omnitok_micro
from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer

TINY = omnitok_micro().replace(encoder_blocks="tw", viewed=True, normed_patches=True)
VECTORS = TINY.replace(vocab=0)
FRAMES = {"image_size": 16, "frames": 5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(config: OmniTokenizerConfig = TINY) -> OmniTokenizer:
    return config.build().eval()


def test_patches_go_back_and_forth():
    x = torch.randn(2, 3, 8, 8, 12)
    patches = to_patches(x, 4, 2)
    assert patches.shape == (2, 2, 4, 6, 48)
    torch.testing.assert_close(patches[1, 1, 2, 3], x[1, :, 4:8, 4:6, 6:8].flatten())
    assert torch.equal(from_patches(patches, 4, 2), x)


@pytest.mark.parametrize("config", [TINY, VECTORS, TINY.replace(encoder_blocks="t")])
@torch.no_grad()
def test_frames_need_not_be_square(config):
    model, x = build(config), torch.rand(2, 3, 5, 16, 32) * 2 - 1
    tokens = model.encode(x)
    assert tokens.layout.shape == (2, 4, 8)
    assert model.decode(tokens).shape == x.shape
    turned = model.latents(x.transpose(3, 4)).transpose(2, 3)
    assert not torch.allclose(turned, model.latents(x)), "rows and columns are told apart"


@torch.no_grad()
def test_a_picture_is_a_clip_of_one_frame():
    """With causal convolutions also the first frame of a longer clip; with the published ones only alone."""
    for config in (TINY, TINY.replace(viewed=False)):
        model, clip = build(config), torch.rand(2, 3, 5, 16, 16) * 2 - 1
        picture = model.encode(as_clips(clip[:, :, 0]))
        assert picture.layout.shape == (1, 4, 4)
        assert torch.equal(picture.values, model.encode(clip[:, :, :1]).values)
        first = model.latents(clip)[:, 0]
        alone = model.latents(clip[:, :, :1])[:, 0]
        assert torch.allclose(first, alone, atol=1e-5) == model.strictly_causal == (not config.viewed)


@pytest.mark.parametrize("setting", ["causal_attention", "causal_convolution"])
@torch.no_grad()
def test_every_part_must_be_causal(setting):
    config = TINY.replace(viewed=False, **{setting: False})
    model, clip = build(config), torch.rand(1, 3, 9, 16, 16) * 2 - 1
    assert not model.strictly_causal
    changed = clip.clone()
    changed[:, :, 5:] += 0.5 * torch.rand(1, 3, 4, 16, 16)
    assert not torch.allclose(model.latents(clip)[:, 0], model.latents(changed)[:, 0], atol=1e-5)


@torch.no_grad()
def test_brightness_and_contrast_of_a_patch_are_invisible():
    """The norm in front of the embeddings takes them away, so they are lost. Published, and worth knowing."""
    model, clip = build(), torch.rand(1, 3, 5, 16, 16) - 0.5
    latents = model.latents(clip)
    torch.testing.assert_close(model.latents(clip + 0.3), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.latents(2 * clip), latents, atol=1e-3, rtol=0)
    seeing = TINY.replace(normed_patches=False).build().eval()
    assert not torch.allclose(seeing.latents(clip + 0.3), seeing.latents(clip), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_the_convolution_of_clips_is_that_of_torch(causal):
    """It is computed frame by frame, as PyTorch has no fast depthwise convolution of clips."""
    layer, x = ClipConvolution(6, causal), torch.randn(2, 4, 5, 3, 6)
    before = 2 if causal else 1
    padded = torch.nn.functional.pad(x.movedim(-1, 1), (1, 1, 1, 1, before, 2 - before))
    expected = torch.nn.functional.conv3d(padded, layer.weight, layer.bias, groups=6)
    torch.testing.assert_close(layer(x), expected.movedim(1, -1), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_biased_attention_against_its_formula():
    """Scores of the published code without fused attention, position by position."""
    layer, x, heads = Attention(8, 2, 4, raw_keys=True), torch.randn(3, 5, 8), 2
    bias = distance_bias(heads, 5)
    assert [float(-bias[head, 4, 3]) for head in range(heads)] == [2**-4, 2**-8]
    assert torch.equal(distance_bias(3, 4)[:, 3, 2], -torch.tensor([2.0**-4, 2.0**-8, 2.0**-2]))
    q = layer.q(layer.norm(x)).view(3, 5, heads, 4)
    k, v = (part.view(3, 5, heads, 4) for part in layer.kv(x).chunk(2, -1))
    expected = torch.zeros(3, 5, heads, 4)
    for row in range(3):
        for head in range(heads):
            for i in range(5):
                cosines = [torch.cosine_similarity(q[row, i, head], k[row, j, head], 0) for j in range(i + 1)]
                scores = SCALE * torch.stack(cosines) + bias[head, i, : i + 1]
                expected[row, i, head] = scores.softmax(0) @ v[row, : i + 1, head]
    torch.testing.assert_close(layer(x, True, None, bias), layer.out(expected.flatten(2)))


@torch.no_grad()
def test_forgotten_biases_act_where_they_are_asked_for():
    clip = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    for rotary in (True, False):
        model = build(TINY.replace(rotary=rotary, biased=True))
        plain = build(TINY.replace(rotary=rotary))
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".bias.layers." not in k})
        assert any(".bias.layers." in name for name in model.state_dict()) == (not rotary)
        assert not torch.allclose(model.latents(clip), plain.latents(clip), atol=1e-4)


def test_codes_leave_the_sphere_and_latents_do_not():
    model, x = build(), torch.rand(1, 3, 5, 16, 16)
    model.quantizer.embedding.weight.data *= torch.rand(TINY.vocab, 1) + 0.5
    quantized = model.quantizer(model.latents(x))
    table = model.quantizer.embedding.weight
    unit = torch.nn.functional.normalize(model.latents(x), dim=-1)
    assert torch.equal(torch.cdist(unit.flatten(0, 3), table).argmin(1), quantized.codes.flatten())
    torch.testing.assert_close(model.quantizer.lookup(quantized.codes), table[quantized.codes])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18}, "do not divide into windows of side 8"),
        ({"encoder_blocks": "t", "image_size": 18}, "do not divide into patches of side 4"),
        ({"frames": 4}, "time_patch=4, got frames=4"),
        ({"encoder_blocks": "tx"}, "letters t .* and w .*, got 'tx'"),
        ({"decoder_blocks": ""}, "letters t .* and w .*, got ''"),
        ({"head_width": 6}, "multiple of 4, got 6"),
        ({"heads": 5}, "multiple of its heads, got 32 and 5"),
        ({"vocab": -1}, "vocab"),
        ({"scale": 0.0}, "scale of latents must be positive"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        TINY.replace(**changes)


def test_clips_that_do_not_fit():
    model = build()
    with pytest.raises(ArzooError, match=r"multiples, T - 1 of 4, H of 4, W of 4\. Resize or crop"):
        model.encode(torch.zeros(1, 3, 6, 16, 16))
    with pytest.raises(
        ArzooError, match=r"3 x 4 tokens do not divide into windows of side 2.*multiples of 8 pixels"
    ):
        model.encode(torch.zeros(1, 3, 5, 12, 16))
    for shape in ((1, 3, 16, 16), (1, 4, 5, 16, 16)):
        with pytest.raises(ArzooError, match=r"takes clips \(B, 3, T, H, W\).*as_clips"):
            model.encode(torch.zeros(shape))
    with pytest.raises(ArzooError, match=r"are codes \(B, 32\), got \(1, 16\)"):
        model.decode(Tokens.of(torch.zeros(1, 16, dtype=torch.long)))
    with pytest.raises(ArzooError, match=r"are vectors \(B, 32, 4\)"):
        build(VECTORS).decode(Tokens.of(torch.zeros(1, 32, dtype=torch.long)))


@pytest.mark.parametrize(
    ("config", "precision"), [(TINY, torch.bfloat16), (VECTORS, torch.float32)], ids=["codes", "vectors"]
)
def test_losses_fall_in_a_few_steps(config, precision):
    loss = TokenizerLossConfig(l1=1.0, perceptual=0.0, kl=1e-6, adversarial=0.0)
    terms = check_fits(config.build(), loss, precision, moving())
    assert terms == {"l1", "l2"} | ({"codebook", "commitment"} if config.vocab else {"kl"})


def test_the_divergence_of_a_clip_is_shared_by_all_its_numbers():
    model, x = VECTORS.build(), moving(3)
    _, posterior = model(x)
    weights = TokenizerLossConfig(kl=1.0)
    frames = x.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(posterior.terms(weights, x), posterior.terms(weights, frames))
    torch.testing.assert_close(posterior.terms(weights, x)["kl"], posterior.kl().mean() / x[0].numel())


def test_vectors_have_a_mean_a_spread_and_a_scale():
    model, x = build(VECTORS.replace(scale=0.5, shift=0.1)).requires_grad_(False), moving(2)
    tokens, spread = model.distribution(x)
    sample = model.encode(x, Draws([5, 6])).values
    torch.testing.assert_close(model.encode(x[1:], Draws([6])).values, sample[1:], atol=1e-5, rtol=0)
    assert 0.7 < float(((sample - tokens.values) / spread).std()) < 1.3
    torch.testing.assert_close(model(x)[0], model.decode(tokens), atol=1e-5, rtol=0)
    model.calibrate([x, moving(3)])
    standard = model.encode(x, Draws([1, 2])).values
    assert (float(standard.mean()), float(standard.std())) == pytest.approx((0, 1), abs=0.2)
    config = build()
    config.calibrate([x])
    assert config.config == TINY, "codes have no scale"


@pytest.mark.parametrize("config", [TINY, VECTORS])
@torch.no_grad()
def test_a_network_in_bfloat16_takes_float32(config):
    exact = build(config)
    tokens = exact.encode(moving(1))
    rough = copy.deepcopy(exact).bfloat16()
    assert rough.encode(moving(1)).values.dtype == exact.spec.dtype == tokens.values.dtype
    torch.testing.assert_close(rough.decode(tokens).float(), exact.decode(tokens), atol=0.1, rtol=0)


@pytest.mark.parametrize("config", [TINY, VECTORS])
def test_save_and_load(tmp_path, config):
    model, x = build(config), moving(1)
    save_parts(tmp_path / "omni", "tokenizer", {"tokenizer": model}, spec=model.spec.to_dict())
    loaded = load_parts(tmp_path / "omni", "tokenizer")[1]["tokenizer"]
    assert (loaded.config, loaded.spec, loaded.frames) == (config, model.spec, 5)
    assert torch.equal(loaded.encode(x).values, model.encode(x).values)
