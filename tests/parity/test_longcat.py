"""LongCat-Next's tokenizer against a plain implementation, picture by picture with masks, and its published layout."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, source_of
from arzoo.tokenizers.longcat.convert import to_longcat

TOLERANCE = 2e-5
OWN = "model.visual_tokenizer."
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PUBLISHED = {
    "patch": 14, "width": 1280, "depth": 32, "hidden": 3420, "code": 3584, "levels": 8, "vocab": 16384,
    "lm": (3072, 8192), "pixels": (1024, 32, 2730),
}  # fmt: skip
TINY = {
    "patch": 2, "width": 16, "depth": 9, "hidden": 20, "code": 12, "levels": 3, "vocab": 40, "lm": (6, 10),
    "pixels": (24, 3, 28),
}  # fmt: skip
HEADS = 2


def layer(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def encoder_shapes(s):
    """The 425 tensors among those of the language model."""
    width, code, shapes = s["width"], s["code"], {}
    shapes["visual_model.patch_embed.proj.weight"] = (width, 3, 2, s["patch"], s["patch"])
    for i in range(s["depth"]):
        block = f"visual_model.blocks.{i}"
        shapes |= {f"{block}.norm1.weight": (width,), f"{block}.norm2.weight": (width,)}
        shapes |= layer(f"{block}.attn.qkv", 3 * width, width) | layer(f"{block}.attn.proj", width, width)
        shapes |= layer(f"{block}.mlp.gate_proj", s["hidden"], width)
        shapes |= layer(f"{block}.mlp.up_proj", s["hidden"], width)
        shapes |= layer(f"{block}.mlp.down_proj", width, s["hidden"])
    bridge, quantizer = "visual_bridge_model.bridge", "visual_bridge_model.quantizer"
    shapes[f"{bridge}.ln_q.weight"] = (width,)
    shapes |= layer(f"{bridge}.mlp.0", 4 * width, 4 * width) | layer(f"{bridge}.mlp.2", code, 4 * width)
    shapes |= {f"{quantizer}.quant_conv.0.{part}": (code,) for part in ("weight", "bias")}
    shapes |= layer(f"{quantizer}.quant_conv.1", code, code) | layer(f"{quantizer}.quant_conv.3", code, code)
    for level in range(s["levels"]):
        book = f"{quantizer}.quantize.codebooks.{level}"
        shapes |= {f"{book}.embed": (s["vocab"] + 1, code), f"{book}.embed_ema": (s["vocab"], code)}
        shapes[f"{book}.cluster_size_ema"] = (s["vocab"],)
    buffer, (lm, wide) = "visual_embedding_layer.pre_buffer", s["lm"]
    shapes |= {f"{buffer}.pre_layernorm.{part}": (lm,) for part in ("weight", "bias")}
    shapes |= {f"{buffer}.mlp.{part}_proj.weight": (wide, lm) for part in ("gate", "up")}
    shapes[f"{buffer}.mlp.down_proj.weight"] = (lm, wide)
    return {OWN + name: shape for name, shape in shapes.items()}


def decoder_shapes(s):
    """The tensors of the pixel decoder's file."""
    width, depth, hidden = s["pixels"]
    shapes = layer("post_quant_conv", width, s["code"]) | {"post_quant_norm.weight": (width,)}
    shapes |= {f"{name}.weight": (width,) for name in ("patch_unmerger.ln_q", "norm_in", "norm_out")}
    shapes |= layer("patch_unmerger.mlp.0", 4 * width, width)
    shapes |= layer("patch_unmerger.mlp.2", 4 * width, 4 * width)
    for i in range(depth):
        block = f"encoder.layers.{i}"
        shapes |= {f"{block}.layer_norm{n}.weight": (width,) for n in (1, 2)}
        for part in ("q", "k", "v", "out"):
            shapes |= layer(f"{block}.self_attn.{part}_proj", width, width)
        shapes |= layer(f"{block}.mlp.w1", hidden, width) | layer(f"{block}.mlp.w2", hidden, width)
        shapes |= layer(f"{block}.mlp.w3", width, hidden)
    shapes |= layer("decoder_head.0", hidden, width) | layer("decoder_head.2", 6 * s["patch"] ** 2, hidden)
    return {f"image_decoder.{name}": shape for name, shape in shapes.items()}


def weights(shapes):
    rng, state = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=rng)
        if "norm" in name or "ln_q" in name or "quant_conv.0" in name:
            value = 1 + 0.1 * value if name.endswith("weight") else 0.1 * value
        elif "codebooks" not in name:
            value = value * (0.1 if name.endswith("bias") else math.prod(shape[1:]) ** -0.5)
        state[name] = value
    return {  # the levels share their codebook
        name: state[f"{OWN}visual_bridge_model.quantizer.quantize.codebooks.0.{name.rpartition('.')[2]}"]
        if "codebooks" in name
        else value
        for name, value in state.items()
    }


def rms(x, weight):
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def affine(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def merged_places(rows, columns):
    """(row, column) of every patch: groups of 2 x 2 row by row, and row by row inside a group."""
    return [
        (2 * group_row + row, 2 * group_column + column)
        for group_row in range(rows // 2)
        for group_column in range(columns // 2)
        for row in range(2)
        for column in range(2)
    ]


def angles(places, width):
    """(n, width / 2): a quarter of the head's channels turn by the row, a quarter by the column."""
    places = torch.tensor(places, dtype=torch.float64)
    speeds = 1e4 ** (-2 * torch.arange(width // 4, dtype=torch.float64) / (width // 2))
    return torch.cat([places[:, :1] * speeds, places[:, 1:] * speeds], 1).float()[:, None]


def turned_halves(x, angle):
    first, second = x.chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def turned_pairs(x, angle):
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


def attention(q, k, v, mask, scale):
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v).flatten(1)


def plain_latents(state, picture, patch):
    """Vectors before quantization (n, C) of a picture (3, H, W) in [-1, 1]."""
    state = {name.removeprefix(OWN): value for name, value in state.items()}
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    clip = (((picture + 1) / 2 - mean) / std)[:, None].repeat(1, 2, 1, 1)  # (channel, frame, y, x)
    rows, columns = picture.shape[1] // patch, picture.shape[2] // patch
    places = merged_places(rows, columns)
    cut = [clip[:, :, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].flatten() for r, c in places]
    x = torch.stack(cut) @ state["visual_model.patch_embed.proj.weight"].flatten(1).T
    heads = x.shape[1] // HEADS
    angle = angles(places, heads)
    windows = torch.tensor([r // 8 * 1000 + c // 8 for r, c in places])
    for i in range(TINY["depth"]):
        block = f"visual_model.blocks.{i}"
        qkv = affine(state, f"{block}.attn.qkv", rms(x, state[f"{block}.norm1.weight"]))
        q, k, v = (part.unflatten(1, (HEADS, heads)) for part in qkv.chunk(3, 1))
        mask = windows[:, None] == windows if (i + 1) % 8 else torch.ones(len(x), len(x), dtype=torch.bool)
        mixed = attention(turned_halves(q, angle), turned_halves(k, angle), v, mask, heads**-0.5)
        x = x + affine(state, f"{block}.attn.proj", mixed)
        y = rms(x, state[f"{block}.norm2.weight"])
        gate, up = affine(state, f"{block}.mlp.gate_proj", y), affine(state, f"{block}.mlp.up_proj", y)
        x = x + affine(state, f"{block}.mlp.down_proj", gate * gate.sigmoid() * up)
    bridge, conv = "visual_bridge_model.bridge", "visual_bridge_model.quantizer.quant_conv"
    y = rms(x, state[f"{bridge}.ln_q.weight"]).reshape(len(x) // 4, -1)
    y = affine(state, f"{bridge}.mlp.2", F.gelu(affine(state, f"{bridge}.mlp.0", y)))
    y = F.layer_norm(y, y.shape[1:], state[f"{conv}.0.weight"], state[f"{conv}.0.bias"], 1e-5)
    return affine(state, f"{conv}.3", F.gelu(affine(state, f"{conv}.1", y)))


def plain_codes(state, z):
    """Codes (n, Q) and the sum of their vectors."""
    codes, total = [], torch.zeros_like(z)
    for level in range(TINY["levels"]):
        table = state[f"{OWN}visual_bridge_model.quantizer.quantize.codebooks.{level}.embed"][:-1]
        rest = z - total
        distance = rest.square().sum(1)[:, None] + table.square().sum(1) - 2 * rest @ table.T
        codes.append(distance.argmin(1))
        total = total + table[codes[-1]]
    return torch.stack(codes, 1), total


def plain_pixels(state, vectors, size, patch, quirks=True):
    """Picture (3, H, W) in about [-1, 1] of vectors (n, C) of (h, w) tokens."""
    state = {name.removeprefix("image_decoder."): value for name, value in state.items()}
    x = rms(affine(state, "post_quant_conv", vectors), state["post_quant_norm.weight"])
    x = affine(state, "patch_unmerger.mlp.0", rms(x, state["patch_unmerger.ln_q.weight"]))
    x = affine(state, "patch_unmerger.mlp.2", F.gelu(x)).reshape(4 * len(x), -1)
    x = rms(x, state["norm_in.weight"])
    rows, columns = 2 * size[0], 2 * size[1]
    places, heads = merged_places(rows, columns), x.shape[1] // HEADS
    row_major = [(r, c) for r in range(rows) for c in range(columns)]
    angle, mask = angles(row_major if quirks else places, heads), torch.ones(len(x), len(x), dtype=torch.bool)
    for i in range(TINY["pixels"][1]):
        block = f"encoder.layers.{i}"
        y = rms(x, state[f"{block}.layer_norm1.weight"])
        q, k, v = (
            affine(state, f"{block}.self_attn.{part}_proj", y).unflatten(1, (HEADS, heads)) for part in "qkv"
        )
        scale = 1 / heads if quirks else heads**-0.5
        mixed = attention(turned_pairs(q, angle), turned_pairs(k, angle), v, mask, scale)
        x = x + affine(state, f"{block}.self_attn.out_proj", mixed)
        y = rms(x, state[f"{block}.layer_norm2.weight"])
        gate, up = affine(state, f"{block}.mlp.w1", y), affine(state, f"{block}.mlp.w2", y)
        x = x + affine(state, f"{block}.mlp.w3", F.silu(gate) * up)
    y = affine(state, "decoder_head.0", rms(x, state["norm_out.weight"]))
    patches = affine(state, "decoder_head.2", F.gelu(y)).unflatten(1, (3, 2, patch, patch))[:, :, 0]
    picture = torch.zeros(3, rows * patch, columns * patch)
    for (r, c), part in zip(places, patches, strict=True):
        picture[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch] = part
    return (picture * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 2 - 1


@pytest.fixture(scope="module")
def tiny():
    """Random weights in the published layout."""
    return weights(encoder_shapes(TINY) | decoder_shapes(TINY))


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return convert_state(tiny, heads=HEADS).parts["tokenizer"]


SIZES = [(60, 56), (64, 64), (36, 92)]


def pictures():
    rng = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=rng) * 2 - 1 for size in SIZES]


@torch.no_grad()
def test_encoder_and_codes_equal_a_plain_implementation(tiny, tokenizer):
    packed = tokenizer.encode_packed([as_clips(picture[None]) for picture in pictures()])
    for picture, tokens in zip(pictures(), packed, strict=True):
        expected = plain_latents(tiny, picture, TINY["patch"])
        z = tokenizer.latents(as_clips(picture[None]))[0]
        torch.testing.assert_close(z, expected, atol=TOLERANCE, rtol=0)
        codes, vectors = plain_codes(tiny, expected)
        assert torch.equal(tokens.values[0], codes)
        torch.testing.assert_close(tokenizer.quantizer.lookup(codes), vectors, atol=TOLERANCE, rtol=0)
    assert len(packed[0].values.unique()) > 20


@torch.no_grad()
def test_the_row_of_padding_is_never_a_code(tiny):
    """It is published as a row of the table, and here it is the nearest of all."""
    state, picture = dict(tiny), pictures()[0]
    z = plain_latents(state, picture, TINY["patch"])
    for level in range(TINY["levels"]):
        name = f"{OWN}visual_bridge_model.quantizer.quantize.codebooks.{level}.embed"
        state[name] = torch.cat([state[name][:-1], z[:1]])
    other = convert_state(state, heads=HEADS).parts["tokenizer"]
    tokens = other.encode(as_clips(picture[None]))
    assert torch.equal(tokens.values[0], plain_codes(state, z)[0])
    tokens.values[0, 3, 1] = TINY["vocab"]
    with pytest.raises(ArzooError, match="codes must be 0 to 39, got 0 to 40"):
        other.decode(tokens)


@pytest.mark.parametrize("quirks", [True, False])
@torch.no_grad()
def test_pixel_decoder_equals_a_plain_implementation(tiny, tokenizer, quirks):
    if not quirks:
        config = tokenizer.config.replace(row_by_row=False, scaled_twice=False)
        right = config.build().eval()
        right.load_state_dict(tokenizer.state_dict())
        tokenizer = right
    rng = torch.Generator().manual_seed(2)
    grids = [tokenizer.spec.layout_of((1, *size)) for size in SIZES]
    codes = [torch.randint(0, 40, (1, grid.size, TINY["levels"]), generator=rng) for grid in grids]
    packed = tokenizer.decode_packed([Tokens.of(c, layout=g) for c, g in zip(codes, grids, strict=True)])
    table = tiny[f"{OWN}visual_bridge_model.quantizer.quantize.codebooks.0.embed"]
    for part, grid, clip in zip(codes, grids, packed, strict=True):
        size = (grid.h, grid.w)
        expected = plain_pixels(tiny, table[part[0]].sum(1), size, TINY["patch"], quirks)
        torch.testing.assert_close(clip[0, :, 0], expected, atol=TOLERANCE, rtol=0)
        other = plain_pixels(tiny, table[part[0]].sum(1), size, TINY["patch"], not quirks)
        assert float((clip[0, :, 0] - other).abs().max()) > 100 * TOLERANCE


def test_the_published_layout_in_full():
    """Names and shapes on the meta device; the language model's part of the 425 tensors is left out."""
    mine, pixels = encoder_shapes(PUBLISHED), decoder_shapes(PUBLISHED)
    assert len(mine) == 425
    state = {name: torch.empty(shape, device="meta") for name, shape in (mine | pixels).items()}
    assert source_of(state) == "longcat"
    conversion = convert_state(state)
    tokenizer = conversion.parts["tokenizer"]
    assert tokenizer.config == registry.lookup("tokenizer", "longcat_next")()
    assert not conversion.remark
    back = {name: tuple(value.shape) for name, value in to_longcat(tokenizer).items()}
    left_out = {name for name in mine if "visual_embedding_layer" in name}
    assert len(left_out) == 5
    assert back == {name: shape for name, shape in (mine | pixels).items() if name not in left_out}
    sizes = {
        part: sum(p.numel() for p in getattr(tokenizer, part).parameters()) for part in ("encoder", "decoder")
    }
    assert sizes == {"encoder": 702254592, "decoder": 433656498}


@torch.no_grad()
def test_weights_survive_the_way_back(tiny, tokenizer):
    back = to_longcat(tokenizer)
    for name, value in back.items():
        expected = tiny[name].clone()
        if name.endswith(".embed"):
            expected[-1] = 0
        assert torch.equal(value, expected), name
    again = convert_state(back, heads=HEADS).parts["tokenizer"]
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_other_forms_of_the_published_weights(tiny, tmp_path):
    """Without the language model's prefix, with the first layer as a matrix, the pixel decoder in its own file."""
    own = {name.removeprefix("model."): v for name, v in tiny.items() if name.startswith(OWN)}
    own["visual_tokenizer.visual_model.patch_embed.proj.weight"] = own[
        "visual_tokenizer.visual_model.patch_embed.proj.weight"
    ].flatten(1)
    pixels = {name: value for name, value in tiny.items() if name.startswith("image_decoder.")}
    save_file(pixels | {"image_refiner.vae.weight": torch.zeros(3)}, tmp_path / "image_decoder.safetensors")
    whole = convert_state(tiny, heads=HEADS).parts["tokenizer"].state_dict()
    both = convert_state(own, heads=HEADS, pixel_decoder=str(tmp_path / "image_decoder.safetensors"))
    for name, value in both.parts["tokenizer"].state_dict().items():
        assert torch.equal(value, whole[name]), name
    alone = convert_state(own, heads=HEADS)
    assert "only encodes" in alone.remark
    tokenizer = alone.parts["tokenizer"]
    tokens = tokenizer.encode(as_clips(pictures()[0][None]))
    with pytest.raises(ArzooError, match=r"no pixel decoder.*pixel_decoder=FILE"):
        tokenizer.decode(tokens)


def test_codebooks_that_differ_stay_apart(tiny):
    state = dict(tiny)
    name = f"{OWN}visual_bridge_model.quantizer.quantize.codebooks.1.embed"
    state[name] = state[name] + 1
    tokenizer = convert_state(state, heads=HEADS).parts["tokenizer"]
    assert not tokenizer.config.shared
    assert torch.equal(tokenizer.quantizer.codebooks[1], state[name][:-1])


def test_what_the_converter_refuses(tiny, tmp_path):
    whole = {name: value for name, value in tiny.items() if not name.endswith("blocks.3.norm2.weight")}
    with pytest.raises(ArzooError, match=r"missing: .*blocks.3.norm2.weight"):
        convert_state(whole, heads=HEADS)
    with pytest.raises(ArzooError, match=r"unknown: visual_model.extra"):
        convert_state(tiny | {f"{OWN}visual_model.extra": torch.zeros(1)}, heads=HEADS)
    file = tmp_path / "other.safetensors"
    with pytest.raises(ArzooError, match=r"cannot read pixel_decoder="):
        convert_state(tiny, heads=HEADS, pixel_decoder=str(file))
    file.write_bytes(b"nothing")
    with pytest.raises(ArzooError, match=r"is not a safetensors file"):
        convert_state(tiny, heads=HEADS, pixel_decoder=str(file))
    save_file({"image_refiner.weight": torch.zeros(3)}, file)
    with pytest.raises(ArzooError, match=r"holds no tensors under image_decoder"):
        convert_state(tiny, heads=HEADS, pixel_decoder=str(file))
