"""Causal blocks and NBP's tokenizer: a literal reference, causality, pictures, round trips, training, storage."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.causal import (
    CausalConv3d,
    CausalStyle,
    DepthToSpace,
    FrameNorm,
    ResidualUnit,
    Swish,
)
from arzoo.tokenizers.nbp import network
from arzoo.tokenizers.nbp.network import NBPTokenizerConfig
from arzoo.tokenizers.nbp.presets import clip_micro, clip_small, nbp_clip

TINY = NBPTokenizerConfig(
    image_size=16,
    frames=9,
    widths=(8, 8, 16, 16),
    decoder_widths=(8, 16, 16, 16),
    blocks=1,
    middle=1,
    levels=(8, 5, 5),
)
STYLES = [
    CausalStyle(),
    CausalStyle(time_padding="zeros", space_padding="zeros", groups=4, eps=1e-6, learned_beta=False, drop="later"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def clip(frames: int = 9, size: int = 16, batch: int = 2) -> torch.Tensor:
    return F.interpolate(torch.rand(batch, 3, 3, 4, 4) * 2 - 1, size=(frames, size, size), mode="trilinear")


def randomized(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter random, so that none has the value at which it has no effect."""
    for parameter in module.parameters():
        torch.nn.init.normal_(
            parameter, 0.5 if parameter.dim() in (1, 5) and parameter.shape[0] == 1 else 0, 0.3
        )
    return module.eval()


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("style", STYLES, ids=["replicate", "zeros"])
def test_convolution_looks_at_padded_earlier_frames(style, stride):
    conv = randomized(CausalConv3d(2, 3, stride=stride, style=style))
    x = torch.randn(1, 2, 5, 4, 6)
    result = conv(x)
    for _ in range(40):
        o, t, i, j = (int(torch.randint(n, ())) for n in result.shape[1:])
        expected = conv.conv.bias[o].clone()
        for a in range(3):
            for b in range(3):
                for c in range(3):
                    where = t * stride[0] + a - 2, i * stride[1] + b - 1, j * stride[2] + c - 1
                    inside = [min(max(n, 0), size - 1) for n, size in zip(where, x.shape[2:], strict=True)]
                    if style.time_padding == "replicate" or list(where) == inside:
                        expected += conv.conv.weight[o, :, a, b, c] @ x[(0, slice(None), *inside)]
        torch.testing.assert_close(result[0, o, t, i, j], expected, atol=1e-5, rtol=1e-5)


def test_norm_of_frames_and_of_clips():
    x = torch.randn(2, 8, 3, 4, 4) * torch.arange(1, 4).view(1, 1, 3, 1, 1)
    for per, dims in (("frame", (2, 4, 5)), ("clip", (2, 3, 4, 5))):
        norm = randomized(FrameNorm(8, CausalStyle(groups=4, eps=1e-2, norm_per=per)))
        grouped = x.unflatten(1, (4, 2))
        mean, variance = grouped.mean(dims, keepdim=True), grouped.var(dims, correction=0, keepdim=True)
        plain = ((grouped - mean) / (variance + 1e-2).sqrt()).flatten(1, 2)
        expected = plain * norm.weight.view(-1, 1, 1, 1) + norm.bias.view(-1, 1, 1, 1)
        torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_swish_has_a_beta_per_channel_or_none():
    x, swish = torch.randn(1, 4, 2, 2, 2), randomized(Swish(4))
    before = x.clone()
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(swish(x), x / (1 + torch.exp(-swish.beta * x)))
    assert torch.equal(x, before)
    plain = Swish(4, CausalStyle(learned_beta=False))
    assert not list(plain.parameters())
    torch.testing.assert_close(plain(x), x / (1 + torch.exp(-x)))


@pytest.mark.parametrize("drop", ["first", "later"])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2), (3, 1, 2)])
def test_depth_to_space_follows_the_formula(factors, drop):
    a, b, c = factors
    x = torch.randn(1, a * b * c * 5, 3, 2, 4)
    result = DepthToSpace(factors, CausalStyle(drop=drop))(x)
    assert result.shape == (1, 5, 1 + 2 * a, 2 * b, 4 * c)
    whole = torch.empty(1, 5, 3 * a, 2 * b, 4 * c)
    for it in range(a):
        for ih in range(b):
            for iw in range(c):
                for channel in range(5):
                    source = ((it * b + ih) * c + iw) * 5 + channel
                    whole[:, channel, it::a, ih::b, iw::c] = x[:, source]
    kept = list(range(a - 1, 3 * a)) if drop == "first" else [0, *range(a, 3 * a)]
    assert torch.equal(result, whole[:, :, kept])


def test_residual_unit_adds_its_input():
    unit = randomized(ResidualUnit(4, 6))
    x = torch.randn(1, 4, 3, 4, 4)
    torch.testing.assert_close(unit(x) - unit.branch(x), unit.shortcut(x))
    same = ResidualUnit(4, 4)
    torch.nn.init.zeros_(same.branch[-1].conv.weight)
    torch.nn.init.zeros_(same.branch[-1].conv.bias)
    assert torch.equal(same(x), x)


def test_published_size():
    with torch.device("meta"):
        model = registry.create("tokenizer", "nbp_clip")
        codes = model.encode(torch.empty(1, 3, 17, 128, 128))
    millions = [
        sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.encoder, model.decoder)
    ]
    assert [round(count, 2) for count in millions] == [370.37, 144.89, 225.49]
    assert len(model.state_dict()) == 434
    assert (model.spec.vocab, codes.layout, codes.values.shape) == (64000, Grid(5, 16, 16), (1, 1280))


@pytest.mark.parametrize("name", ["clip_micro", "clip_small", "nbp_clip"])
def test_every_preset_says_its_own_grid(name):
    with torch.device("meta"):
        model = registry.create("tokenizer", name).eval()
        x = torch.empty(1, 3, model.frames, *model.image_size)
        assert model.encode(x).values.shape == (1, model.spec.layout.size)
        assert model(x)[0].shape == x.shape
    assert model.strictly_causal


def test_codes_are_those_of_the_paper():
    published = TINY.replace(levels=nbp_clip().levels).build().quantizer
    corners = published.lookup(torch.tensor([0, 63999]))
    assert corners.tolist() == [[-1] * 6, [0.75, 0.75, 0.75, 1, 1, 1]]
    z, index = torch.randn(4000, 6) * 2, torch.zeros(4000)
    for channel, levels in enumerate((8, 8, 8, 5, 5, 5)):
        half, offset = (levels - 1) * (1 - 1e-3) / 2, 0.5 if levels % 2 == 0 else 0.0
        digit = (torch.tanh(z[:, channel] + math.tan(offset / half)) * half - offset).round()
        index += (digit + levels // 2) * (1, 8, 64, 512, 2560, 12800)[channel]
    assert torch.equal(published(z).codes, index.long())


@pytest.mark.parametrize("levels", [clip_small().levels, (3, 8, 2), (7, 4)])
def test_every_code_comes_back(levels):
    quantizer = TINY.replace(levels=levels).build().quantizer
    codes, spans = torch.arange(quantizer.vocab), torch.tensor(quantizer.spans)
    digits = quantizer.lookup(codes) * (torch.tensor(levels) // 2)
    # The outermost levels lie a little outside of the narrowed range.
    inside = ((digits + torch.tensor(quantizer.offsets)) / spans).clamp(-0.999, 0.999)
    assert torch.equal(quantizer(torch.atanh(inside) - torch.tensor(quantizer.shifts)).codes, codes)


@pytest.mark.parametrize("config", [TINY, clip_micro().replace(frames=9)], ids=["published", "small"])
def test_nothing_leaks_from_later_frames(config):
    model = randomized(config.build())
    x = clip(9, model.image_size[0])
    other = torch.cat([x[:, :, :5], torch.randn_like(x[:, :, 5:])], 2)
    with torch.no_grad():
        assert torch.equal(model.latents(x)[:, :2], model.latents(other)[:, :2])
        vectors = model.latents(x)
        changed = torch.cat([vectors[:, :2], torch.randn_like(vectors[:, 2:])], 1)
        assert torch.equal(model.decode_latents(vectors)[:, :, :5], model.decode_latents(changed)[:, :, :5])


def test_clips_of_normalised_statistics_are_not_causal():
    model = randomized(TINY.replace(style={"norm_per": "clip"}).build())
    x = clip()
    other = torch.cat([x[:, :, :5], torch.randn_like(x[:, :, 5:])], 2)
    assert not model.strictly_causal
    assert not torch.allclose(model.latents(x)[:, :2], model.latents(other)[:, :2], atol=1e-3)


@torch.no_grad()
def test_a_prefix_is_the_prefix_of_the_whole_and_a_picture_its_first_frame():
    model = randomized(TINY.build())
    x = clip()
    vectors = model.latents(x)
    for frames in (1, 5):
        count = 1 + (frames - 1) // 4
        torch.testing.assert_close(model.latents(x[:, :, :frames]), vectors[:, :count], atol=1e-4, rtol=1e-4)
        decoded = model.decode_latents(vectors[:, :count])
        torch.testing.assert_close(
            decoded, model.decode_latents(vectors)[:, :, :frames], atol=1e-3, rtol=1e-3
        )
    picture = model.encode(x[:, :, :1])
    assert (picture.layout, model.decode(picture).shape) == (Grid(1, 2, 2), (2, 3, 1, 16, 16))


@pytest.mark.parametrize("config", [TINY, clip_micro()], ids=["published", "small"])
@pytest.mark.parametrize("at_once", [1, 2, 3])
@torch.no_grad()
def test_groups_of_frames_are_the_whole(monkeypatch, config, at_once):
    model = randomized(
        config.replace(style={"time_padding": "zeros", "drop": "later"} if at_once == 2 else {}).build()
    )
    side = model.image_size[0]
    x = clip(25, side)
    vectors, tails = model.latents(x), {}
    sizes = [1 + 4 * (at_once - 1), *[4 * at_once] * 9]
    starts = [sum(sizes[:i]) for i in range(10) if sum(sizes[:i]) < 25]
    parts = [x[:, :, start : start + size] for start, size in zip(starts, sizes, strict=False)]
    torch.testing.assert_close(torch.cat([model.latents(part, tails) for part in parts], 1), vectors)
    decoded, tails = model.decode_latents(vectors), {}
    parts = [model.decode_latents(part, tails) for part in vectors.split(at_once, 1)]
    torch.testing.assert_close(torch.cat(parts, 2), decoded, atol=1e-4, rtol=1e-4)

    whole = model.encode(x)
    monkeypatch.setattr(network, "AT_ONCE", 2 * 4 * side * side * at_once)
    seen = []
    for half in (model.encoder, model.decoder):
        half.register_forward_pre_hook(lambda half, inputs: seen.append(inputs[0].shape[2]))
    assert torch.equal(model.encode(x).values, whole.values)
    torch.testing.assert_close(
        model.decode(whole),
        model.decode_latents(model.quantizer.lookup(whole.values.unflatten(1, whole.layout.shape))),
        atol=1e-4,
        rtol=1e-4,
    )
    assert max(seen[:-1]) <= 4 * at_once
    assert seen[-1] == 7


def test_groups_are_not_used_with_gradients_or_without_causality(monkeypatch):
    monkeypatch.setattr(network, "AT_ONCE", 1)
    seen = []
    for config in (TINY, TINY.replace(style={"norm_per": "clip"})):
        model = config.build().eval()
        model.encoder.register_forward_pre_hook(lambda half, inputs: seen.append(inputs[0].shape[2]))
        with torch.set_grad_enabled(model.strictly_causal):
            model.encode(clip())
    assert seen == [9, 9]
    with pytest.raises(ArzooError, match="normalizes over whole clips"):
        next(model.encode_groups([clip(1)]))
    with pytest.raises(ArzooError, match="normalizes over whole clips"):
        next(model.decode_groups([torch.zeros(1, 1, 2, 2, dtype=torch.long)]))


def test_groups_of_other_shapes_are_refused():
    model = TINY.build().eval()
    with pytest.raises(ArzooError, match="T - 1 of 4"):
        next(model.encode_groups([clip(4)]))
    for group in (clip(5), clip(4, 24), clip(4, batch=1), clip(4)[:, :, :0]):
        with pytest.raises(ArzooError, match=r"are \(2, 3, a multiple of 4, 16, 16\), got"):
            list(model.encode_groups([clip(5), group]))
    with pytest.raises(ArzooError, match="codes must be 0 to 199"):
        next(model.decode_groups([torch.full((1, 1, 2, 2), 200)]))


@torch.no_grad()
def test_codes_decode_to_clips_of_their_own_size():
    model = TINY.build().eval()
    tokens = model.encode(clip(5, 24))
    assert (tokens.layout, model.decode(tokens).shape) == (Grid(2, 3, 3), (2, 3, 5, 24, 24))
    x = clip()
    torch.testing.assert_close(model.decode(model.encode(x)), model(x)[0])
    with pytest.raises(ArzooError, match="T - 1 of 4"):
        model.encode(clip(8))
    with pytest.raises(ArzooError, match="clip of one frame"):
        model.encode(clip()[:, :, 0])
    with pytest.raises(ArzooError, match="codes must be 0 to 199"):
        model.decode(Tokens.of(torch.full((1, 12), 200)))


@pytest.mark.parametrize(
    "change", [{"frames": 8}, {"image_size": 20}, {"widths": (8, 8)}, {"decoder_widths": (8,)}]
)
def test_sizes_that_do_not_fit_are_refused(change):
    with pytest.raises(ArzooError, match=r"do not fit tokens|strides lie between"):
        TINY.replace(**change)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_training_reaches_every_weight_and_the_loss_falls(precision):
    model, x = clip_micro().build(), clip(5, 32, 8)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    errors = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            reconstruction, _ = model(x)
        error = (reconstruction.float() - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    assert errors[-1] < 0.5 * errors[0]


def test_a_checkpoint_is_the_tokenizer(tmp_path):
    model = randomized(TINY.build())
    save_parts(tmp_path, "tokenizer", {"tokenizer": model}, spec=model.spec.to_dict())
    stored = load_parts(tmp_path)[1]["tokenizer"]
    assert (stored.config, stored.spec) == (model.config, model.spec)
    x = clip()
    assert torch.equal(stored.encode(x).values, model.encode(x).values)


@torch.no_grad()
def test_a_network_in_bfloat16_takes_and_gives_float32():
    model = randomized(TINY.build())
    x = clip()
    exact = model.decode(model.encode(x))
    rough = model.bfloat16()
    assert rough.encode(x).values.shape == (2, 12)
    decoded = rough.decode(model.encode(x))
    assert (decoded.dtype, decoded.shape) == (torch.float32, exact.shape)
