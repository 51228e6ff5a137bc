"""Tokenizers of pictures of any size: packing, windows, sizes, levels, training, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.clips import as_clips
from arzoo.core.sizes import MOST_ASPECT, Sizes
from arzoo.core.tokens import Tokens
from arzoo.models.common.packing import Segments
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.resolution import fit_pictures
from arzoo.tokenizers.longcat.patches import Places, to_patches, to_pictures
from arzoo.tokenizers.longcat.presets import longcat_8_micro

SIZES = [(16, 16), (24, 40), (64, 64), (16, 16), (8, 8), (72, 16), (40, 24)]
TOLERANCE = 2e-5


def built(**changes):
    torch.manual_seed(0)
    return longcat_8_micro().replace(**changes).build().eval()


def pictures(sizes=SIZES):
    rng = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, 1, *size, generator=rng) * 2 - 1 for size in sizes]


@torch.no_grad()
def test_packed_pictures_equal_one_by_one():
    tokenizer, clips = built(), pictures()
    latents = tokenizer.latents_packed(clips)
    tokens = tokenizer.encode_packed(clips)
    decoded = tokenizer.decode_packed(tokens)
    for x, z, packed, picture in zip(clips, latents, tokens, decoded, strict=True):
        alone = tokenizer.encode(x)
        torch.testing.assert_close(z, tokenizer.latents(x), atol=TOLERANCE, rtol=0)
        assert torch.equal(packed.values, alone.values)
        assert packed.layout == alone.layout == tokenizer.spec.layout_of(x.shape[2:])
        assert picture.shape == x.shape
        torch.testing.assert_close(picture, tokenizer.decode(alone), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_the_order_of_pictures_does_not_matter():
    tokenizer, clips = built(), pictures()
    order = [4, 2, 6, 0, 1, 5, 3]
    latents, permuted = tokenizer.latents_packed(clips), tokenizer.latents_packed([clips[i] for i in order])
    for place, number in enumerate(order):
        torch.testing.assert_close(permuted[place], latents[number], atol=TOLERANCE, rtol=0)
    tokens = [Tokens.of(torch.randint(0, 64, (1, z.shape[1], 2)), layout=tokenizer.spec.layout_of(x.shape[2:]))
              for x, z in zip(clips, latents, strict=True)]  # fmt: skip
    decoded, permuted = tokenizer.decode_packed(tokens), tokenizer.decode_packed([tokens[i] for i in order])
    for place, number in enumerate(order):
        torch.testing.assert_close(permuted[place], decoded[number], atol=TOLERANCE, rtol=0)


def test_no_picture_reaches_another():
    """Neither values nor gradients: even infinite neighbors change nothing."""
    tokenizer, clips = built(), pictures()
    before = tokenizer.latents_packed(clips)[1]
    loud = [x if i == 1 else torch.full_like(x, torch.inf) for i, x in enumerate(clips)]
    torch.testing.assert_close(tokenizer.latents_packed(loud)[1], before, atol=TOLERANCE, rtol=0)
    clips = [x.requires_grad_() for x in clips]
    gradients = torch.autograd.grad(tokenizer.latents_packed(clips)[1].square().sum(), clips)
    assert gradients[1].any()
    assert not any(gradient.any() for i, gradient in enumerate(gradients) if i != 1)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (72, 40), (24, 8)])
def test_windows_equal_masks(size, monkeypatch):
    """Attention over the whole picture with a mask of the windows, patches in raster order."""
    tokenizer, (x,) = built(), pictures([size])
    expected = tokenizer.latents(x)
    area, config = tokenizer.config.merge**2, tokenizer.config
    row, column = torch.cartesian_prod(*(torch.arange(side // config.factor) for side in size)).unbind(1)
    window = (row // config.window * 100 + column // config.window).repeat_interleave(area)

    class Masked(Segments):
        def attend(self, query, key, value):
            heads = (part.transpose(0, 1)[None] for part in (query, key, value))
            mixed = F.scaled_dot_product_attention(*heads, attn_mask=window[:, None] == window)
            return mixed[0].transpose(0, 1).flatten(1)

    plain = Places([(size[0] // 8, size[1] // 8)], config.merge, 24, x.device)
    whole, plain.windows = plain.windows, Masked([len(window)], x.device)
    patches = to_patches(x[:, :, 0], config.patch, config.merge, config.patch_frames)
    torch.testing.assert_close(tokenizer.encoder(patches, plain), expected[0], atol=TOLERANCE, rtol=0)
    plain.windows = whole
    without = tokenizer.encoder(patches, plain)
    limited = len(window.unique()) > 1
    assert (float((without - expected[0]).abs().max()) > 100 * TOLERANCE) == limited


@torch.no_grad()
def test_positions_tell_places_apart():
    """The same patch everywhere: all that differs is the place, and all places of a window differ."""
    tokenizer = built()
    x = torch.rand(1, 3, 1, 8, 8).repeat(1, 1, 1, 4, 4)
    z = tokenizer.latents(x)[0]
    apart = torch.cdist(z, z) + torch.eye(16) * 1e3
    assert float((apart > 0).float().mean()) == 1
    flat = copy.deepcopy(tokenizer)
    for block in flat.encoder.blocks:  # no queries, no places
        block.qkv.weight[: 2 * 48] = block.qkv.bias[: 2 * 48] = 0
    z = flat.latents(x)[0]
    torch.testing.assert_close(z, z[:1].expand_as(z), atol=1e-5, rtol=0)


def test_patches_go_back_and_forth():
    x = torch.rand(3, 3, 24, 40)
    for patch, merge, frames in ((4, 2, 1), (2, 4, 2), (8, 1, 3)):
        patches = to_patches(x, patch, merge, frames)
        assert patches.shape == (3 * 24 * 40 // patch**2, 3 * frames * patch**2)
        size = (24 // (patch * merge), 40 // (patch * merge))
        assert torch.equal(to_pictures(patches, size, patch, merge, frames), x)
    first = to_patches(x, 4, 2, 2)[:3].view(3, 3, 2, 4, 4)
    for patch, corner in zip(first, ((0, 0), (0, 4), (4, 0)), strict=True):
        expected = x[0, :, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4]
        assert torch.equal(patch, expected[:, None].expand(3, 2, 4, 4))


@torch.no_grad()
def test_any_number_of_levels_decodes():
    tokenizer, (x,) = built(), pictures([(24, 40)])
    tokens = tokenizer.encode(x)
    first = tokenizer.decode(tokens, levels=1)
    assert torch.equal(tokenizer.decode(tokens, levels=2), tokenizer.decode(tokens))
    assert not torch.equal(first, tokenizer.decode(tokens))
    tokens.values[..., 1] = 7
    assert torch.equal(tokenizer.decode(tokens, levels=1), first)
    for wrong in (0, 3):
        with pytest.raises(ArzooError, match=f"1 to 2 levels here, got levels={wrong}"):
            tokenizer.decode(tokens, levels=wrong)


@torch.no_grad()
def test_a_single_level_has_one_code_per_token():
    tokenizer, (x,) = built(codebooks=1), pictures([(16, 24)])
    tokens = tokenizer.encode(x)
    assert tokens.values.shape == (1, 6)
    assert tokenizer.decode(tokens).shape == x.shape


@torch.no_grad()
def test_unknown_positions_have_the_mean_of_the_codes():
    tokenizer, (x,) = built(), pictures([(16, 24)])
    tokens = tokenizer.encode(x)
    tokens.known[:, 2] = False
    hidden = tokenizer.decode(tokens)
    tokens.values[:, 2] = 5
    assert torch.equal(tokenizer.decode(tokens), hidden)
    tokens.known[:, 2] = True
    assert not torch.equal(tokenizer.decode(tokens), hidden)


@pytest.mark.parametrize("changes", [{}, {"decay": 0.0, "shared": True, "codebook_dropout": 0.5}])
def test_gradients_reach_everything_and_losses_fall(changes):
    tokenizer = built(**changes).train()
    x = as_clips(F.interpolate(torch.cat(pictures([(4, 4)] * 4))[:, :, 0], (32, 32), mode="bilinear"))
    criterion = TokenizerLossConfig(perceptual=0.0, adversarial=0.0).build()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), 3e-3)
    losses = []
    for step in range(60):
        rebuilt, quantized = tokenizer(x)
        loss, terms = criterion.generator(x[:, :, 0], rebuilt[:, :, 0], quantized, None, step)
        assert ("codebook" in terms) == (not tokenizer.config.decay)
        optimizer.zero_grad()
        loss.backward()
        if not step:
            missing = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
            assert not missing
        optimizer.step()
        tokenizer.quantizer.end_step()
        losses.append(float(terms["l2"].detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert tokenizer.decoder.last_layer is tokenizer.decoder.head2.weight


@torch.no_grad()
def test_training_passes_say_what_encode_and_decode_do():
    tokenizer, (x,) = built(), pictures([(24, 40)])
    rebuilt, quantized = tokenizer(x)
    tokens = tokenizer.encode(x)
    assert torch.equal(quantized.codes, tokens.values)
    torch.testing.assert_close(rebuilt, tokenizer.decode(tokens), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_saved_and_loaded(tmp_path):
    tokenizer, (x,) = built(), pictures([(24, 40)])
    tokenizer.train()(x)
    tokenizer.quantizer.end_step()
    tokens = tokenizer.eval().encode(x)
    save_parts(tmp_path / "t", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    again = open_checkpoint(tmp_path / "t", "tokenizer").load("tokenizer")
    assert again.config == tokenizer.config
    assert again.spec == tokenizer.spec
    assert torch.equal(again.encode(x).values, tokens.values)
    assert torch.equal(again.decode(tokens), tokenizer.decode(tokens))
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((64, 64), (64, 65536), (64, 64)),
        ((60, 67), (64, 65536), (64, 64)),
        ((3, 5), (64, 65536), (8, 8)),
        ((1000, 500), (64, 65536), (360, 176)),
        ((20, 10), (1024, 65536), (48, 24)),
        ((1, 200), (64, 65536), (8, 200)),
        ((4, 12), (64, 65536), (8, 16)),
    ],
)
def test_sizes_that_pictures_are_resized_to(size, limits, expected):
    fitted = Sizes(8, *limits).fitted(*size)
    assert fitted == expected
    assert Sizes(8, *limits).fitted(*size[::-1]) == expected[::-1]
    assert limits[0] <= fitted[0] * fitted[1] <= limits[1]


def test_fitted_sizes_keep_the_shape_and_their_limits():
    rng = torch.Generator().manual_seed(0)
    for height, width in torch.randint(8, 3000, (300, 2), generator=rng).tolist():
        if max(height, width) > 8 * min(height, width):
            continue
        h, w = Sizes(8, 4096, 65536).fitted(height, width)
        assert h % 8 == w % 8 == 0
        assert 4096 <= h * w <= 65536
        assert abs(h / w / (height / width) - 1) < 8 / min(h, w) + 0.1
        assert Sizes(8, 4096, 65536).fitted(h, w) == (h, w)


def test_pictures_are_resized():
    tokenizer = built()
    x = torch.rand(2, 3, 100, 37) * 2 - 1
    fitted = tokenizer.fit(x)
    assert fitted.shape == (2, 3, 96, 40)
    assert float(fitted.abs().max()) <= 1
    assert float((fitted.mean() - x.mean()).abs()) < 0.02
    assert tokenizer.fit(fitted) is fitted
    assert tokenizer.decode(tokenizer.encode(as_clips(fitted))).shape == (2, 3, 1, 96, 40)
    assert fit_pictures(torch.zeros(1, 3, 9, 9), Sizes(8, 64, 64)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(("height", "width"), [(1, 201), (2000, 9), (0, 8)])
def test_pictures_that_are_too_thin(height, width):
    with pytest.raises(
        ArzooError, match=rf"{height} x {width} pixels is too thin.*{MOST_ASPECT} times.*Crop it"
    ):
        Sizes(8, 64, 1 << 30).fitted(height, width)


def test_pictures_that_have_no_size():
    with pytest.raises(
        ArzooError, match=r"no size of about its shape with 64 to 128 pixels .* multiples of 8"
    ):
        Sizes(8, 64, 128).fitted(8, 1000)


def test_sizes_that_are_refused():
    tokenizer = built(least_pixels=256)
    with pytest.raises(ArzooError, match=r"multiples, H of 8, W of 8"):
        tokenizer.encode(torch.zeros(1, 3, 1, 20, 24))
    large = r"264 x 264 are 69696 pixels, .* takes 256 to 65536. Resize them: tokenizer.fit"
    with pytest.raises(ArzooError, match=large):
        tokenizer.encode(torch.zeros(1, 3, 1, 264, 264))
    with pytest.raises(ArzooError, match="8 x 8 are 64 pixels"):
        tokenizer.encode_packed([torch.zeros(1, 3, 1, 16, 16), torch.zeros(1, 3, 1, 8, 8)])
    layout = tokenizer.spec.layout_of((1, 264, 264))
    with pytest.raises(ArzooError, match=large):
        tokenizer.decode(Tokens.of(torch.zeros(1, layout.size, 2, dtype=torch.long), layout=layout))
    with pytest.raises(ArzooError, match=r"takes clips \(B, 3, T, H, W\)"):
        tokenizer.encode(torch.zeros(1, 3, 16, 16))


def test_codes_that_are_refused():
    tokenizer, (x,) = built(), pictures([(16, 16)])
    tokens = tokenizer.encode(x)
    tokens.values[0, 0, 1] = tokenizer.config.vocab  # what published layouts call padding
    with pytest.raises(ArzooError, match=r"codes must be 0 to 63, got .* to 64"):
        tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 60}, r"side 60 do not divide into tokens of 8 pixels \(2 patches of 4\)"),
        ({"image_size": 512}, r"512 x 512 pixels are outside of 64 to 65536 pixels"),
        ({"full": (1, 2)}, r"full must name blocks 0 to 1 of the encoder, got 2"),
        ({"decay": 1.0}, r"decay must be from 0 to below 1, got 1"),
        ({"codebook_dropout": 2.0}, "codebook_dropout"),
        ({"merge": 0}, "merge"),
        ({"encoder": {"heads": 5}}, "multiple of 4"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ArzooError, match=message):
        longcat_8_micro().replace(**changes)


@pytest.mark.parametrize("name", ["longcat_8_micro", "longcat_8_small"])
@torch.no_grad()
def test_presets(name):
    tokenizer = registry.create("tokenizer", name).eval()
    x = as_clips(torch.rand(1, 3, 64, 64))
    assert tokenizer.decode(tokenizer.encode(x)).shape == x.shape
    assert tokenizer.spec.layout.shape == (1, 8, 8)
