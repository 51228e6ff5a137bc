"""Convert LongCat-Next's published tokenizer, and back; missing and unused tensors are errors.

Its encoder and codebooks are among the tensors of the language model, under `model.visual_tokenizer.`; its pixel
decoder is in a file of its own, under `image_decoder.`, beside a refiner, a diffusion model, which is not read.

Published heads rotate channel j with channel j + d / 2, ours neighbors, so the rows of queries and keys change places.
The codebook is published once per level, with a last row of padding, which is no code and is left out.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.paths import expanded
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.convert import filled, published
from arzoo.tokenizers.longcat.network import LongCatConfig, PackedStackConfig
from arzoo.tokenizers.longcat.presets import longcat_next
from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer

OWN = re.compile(r"^(model\.)?visual_tokenizer\.")
"""Prefix of the tokenizer among the tensors of the language model."""
OTHERS = "visual_embedding_layer."
"""Prefix of tensors of the language model that are published among those of the tokenizer."""
PIXELS = "image_decoder."
FULL_EVERY = 8
"""Every eighth block of the encoder attends to the whole picture."""
_PATCHES = "visual_model.patch_embed.proj.weight"
_QKV = re.compile(r"visual_model\.blocks\.\d+\.attn\.qkv\.(weight|bias)")
_CODEBOOKS = "visual_bridge_model.quantizer.quantize.codebooks"
_CODES = {"embed": "codebooks", "embed_ema": "averages.sums", "cluster_size_ema": "averages.sizes"}
_QUANTIZER = {f"quantizer.{ours}": f"{_CODEBOOKS}.{theirs}" for theirs, ours in _CODES.items()}

_NAMES = (
    (r"^encoder\.input\.", "visual_model.patch_embed.proj."),
    (r"^encoder\.blocks\.(\d+)\.(qkv|proj)\.", r"visual_model.blocks.\1.attn.\2."),
    (r"^encoder\.blocks\.", "visual_model.blocks."),
    (r"\.mlp\.down\.", ".mlp.down_proj."),
    (r"^encoder\.bridge_norm\.", "visual_bridge_model.bridge.ln_q."),
    (r"^encoder\.bridge1\.", "visual_bridge_model.bridge.mlp.0."),
    (r"^encoder\.bridge2\.", "visual_bridge_model.bridge.mlp.2."),
    (r"^encoder\.code_norm\.", "visual_bridge_model.quantizer.quant_conv.0."),
    (r"^encoder\.code1\.", "visual_bridge_model.quantizer.quant_conv.1."),
    (r"^encoder\.code2\.", "visual_bridge_model.quantizer.quant_conv.3."),
)
_PIXEL_NAMES = (
    (r"^decoder\.input\.", "post_quant_conv."),
    (r"^decoder\.input_norm\.", "post_quant_norm."),
    (r"^decoder\.split_norm\.", "patch_unmerger.ln_q."),
    (r"^decoder\.split1\.", "patch_unmerger.mlp.0."),
    (r"^decoder\.split2\.", "patch_unmerger.mlp.2."),
    (r"^decoder\.head1\.", "decoder_head.0."),
    (r"^decoder\.head2\.", "decoder_head.2."),
    (r"^decoder\.blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^decoder\.blocks\.(\d+)\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"^decoder\.blocks\.(\d+)\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^decoder\.blocks\.", "encoder.layers."),
    (r"\.mlp\.down\.", ".mlp.w3."),
    (r"^decoder\.", ""),
)


def is_longcat(state: StateDict) -> bool:
    """Whether the tensors have the names of LongCat-Next's tokenizer."""
    return any(OWN.sub("", name) == "visual_bridge_model.bridge.ln_q.weight" for name in state)


def longcat_table(config: LongCatConfig) -> dict[str, Join]:
    """Published tensors of each weight, {"tokenizer.NAME": ...}, as `_arranged` names and shapes them."""
    with torch.device("meta"):
        names = [name for name in LongCatTokenizer(config).state_dict() if name != "quantizer.recent"]
    return {f"tokenizer.{name}": _join(name) for name in names}


def _join(name: str) -> Join:
    """Published tensors of one of our weights."""
    if name in _QUANTIZER:
        return Join((_QUANTIZER[name],))
    decodes = name.startswith("decoder.")
    for pattern, replacement in _PIXEL_NAMES if decodes else _NAMES:
        name = re.sub(pattern, replacement, name)
    names = (name,)
    if ".gate_up." in name:
        parts = ("w1", "w2") if decodes else ("gate_proj", "up_proj")
        names = tuple(name.replace("gate_up", part) for part in parts)
    elif decodes and ".qkv." in name:
        names = tuple(name.replace("qkv", f"{part}_proj") for part in "qkv")
    return Join(tuple(PIXELS + part for part in names) if decodes else names)


def longcat_config(
    state: StateDict, image_size: int | None = None, heads: int = 16, shared: bool = True
) -> LongCatConfig:
    """Read the sizes of a published tokenizer from tensors without the prefix of the language model.

    Arguments as of `from_longcat`; `shared` says whether all levels have one codebook.
    """
    sizes, base = Sizes(state, "LongCat-Next's tokenizer"), longcat_next()
    shape = sizes.shape(_PATCHES)
    depth = sizes.count("visual_model.blocks")
    encoder = PackedStackConfig(
        width=shape[0],
        depth=depth,
        heads=heads,
        hidden=sizes.shape("visual_model.blocks.0.mlp.gate_proj.weight")[0],
    )
    decoder = None
    if any(name.startswith(PIXELS) for name in state):
        decoder = PackedStackConfig(
            width=sizes.shape(f"{PIXELS}norm_in.weight")[0],
            depth=sizes.count(f"{PIXELS}encoder.layers"),
            heads=heads,
            hidden=sizes.shape(f"{PIXELS}encoder.layers.0.mlp.w1.weight")[0],
        )
    channels, bridge = sizes.shape("visual_bridge_model.quantizer.quant_conv.3.weight", 2)
    patch = math.isqrt(math.prod(shape[1:]) // (3 * base.patch_frames))
    merged = sizes.shape("visual_bridge_model.bridge.mlp.0.weight", 2)[1]
    return base.replace(
        image_size=image_size or base.image_size // base.patch * patch,
        patch=patch,
        merge=math.isqrt(merged // shape[0]),
        encoder=encoder,
        full=tuple(range(FULL_EVERY - 1, depth, FULL_EVERY)),
        bridge=bridge,
        vocab=sizes.shape(f"{_CODEBOOKS}.0.cluster_size_ema", 1)[0],
        code_channels=channels,
        codebooks=sizes.count(_CODEBOOKS),
        shared=shared,
        decoder=decoder,
    )


def _books(state: StateDict) -> list[str]:
    """Numbers of the codebooks to read: the first one if all are equal."""
    numbers = [str(i) for i in range(Sizes(state, "LongCat-Next's tokenizer").count(_CODEBOOKS))]
    tables = [state.get(f"{_CODEBOOKS}.{number}.embed") for number in numbers]
    equal = all(
        table is not None and tables[0] is not None and (table.is_meta or torch.equal(table, tables[0]))
        for table in tables
    )
    return numbers[:1] if equal else numbers


def _arranged(state: StateDict, books: list[str], heads: int) -> dict[str, Tensor]:
    """Published tensors in our order of channels, with the codebooks to read as one tensor, without padding."""
    arranged = {name: value for name, value in state.items() if not name.startswith((OTHERS, _CODEBOOKS))}
    if _PATCHES in arranged:  # published as a convolution over frames
        arranged[_PATCHES] = arranged[_PATCHES].flatten(1)
    for name in filter(_QKV.fullmatch, state):
        arranged[name] = _turned(arranged[name], (heads, 2, -1))
    for part in _CODES:
        tensors = [state.get(f"{_CODEBOOKS}.{book}.{part}") for book in books]
        if all(tensor is not None for tensor in tensors):
            stacked = torch.stack([tensor for tensor in tensors if tensor is not None])
            arranged[f"{_CODEBOOKS}.{part}"] = stacked[:, :-1] if part == "embed" else stacked
    return arranged


def _turned(qkv: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Reorder the channels of queries and keys: a head's as the last two axes of a shape, which change places."""
    q, k, v = qkv.chunk(3)
    return torch.cat([*(part.unflatten(0, shape).transpose(1, 2).flatten(0, 2) for part in (q, k)), v])


def from_longcat(
    state: StateDict, pixel_decoder: str = "", image_size: int | None = None, heads: int = 16
) -> Conversion:
    """Convert LongCat-Next's tokenizer.

    Args:
        state: Published tensors: those under `model.visual_tokenizer.`, and maybe those under `image_decoder.`.
        pixel_decoder: File with those under `image_decoder.`; without them the tokenizer only encodes.
        image_size: Side of the pictures that it is used for; by default the published one.
        heads: Attention heads of either network, which no tensor shows.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others, or the second file cannot
            be read.
    """
    own = {OWN.sub("", name): value for name, value in state.items()}
    own |= _pixels(pixel_decoder) if pixel_decoder else {}
    books = _books(own)
    config = longcat_config(own, image_size, heads, shared=len(books) == 1)
    conversion = filled("longcat", config, _arranged(own, books, heads), longcat_table(config))
    remark = (
        ""
        if config.decoder is not None
        else "without the pixel decoder it only encodes; pixel_decoder=FILE adds it"
    )
    return replace(conversion, remark=remark)


def _pixels(file: str) -> dict[str, Tensor]:
    """Read the pixel decoder from its file, which is large because of the refiner."""
    path = Path(expanded(file))
    try:
        with safe_open(path, "pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys() if name.startswith(PIXELS)}
    except OSError as error:
        raise ArzooError(f"cannot read pixel_decoder={file}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArzooError(
            f"pixel_decoder={file} is not a safetensors file ({error}). Download it again."
        ) from error
    if not tensors:
        raise ArzooError(
            f"pixel_decoder={file} holds no tensors under {PIXELS}: name the file of the pixel decoder"
        )
    return tensors


def to_longcat(tokenizer: LongCatTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer whose codes are running averages to the published tensors; rows of padding are zero."""
    config = tokenizer.config
    state = published(tokenizer, longcat_table(config))
    for part in _CODES:
        stacked = state.pop(f"{_CODEBOOKS}.{part}")
        if part == "embed":
            stacked = torch.cat([stacked, torch.zeros_like(stacked[:, :1])], 1)
        for level in range(config.codebooks):
            state[f"{_CODEBOOKS}.{level}.{part}"] = stacked[level % len(stacked)]
    for name in filter(_QKV.fullmatch, state):
        state[name] = _turned(state[name], (config.encoder.heads, -1, 2))
    state[_PATCHES] = state[_PATCHES].unflatten(1, (3, config.patch_frames, config.patch, config.patch))
    return {
        name if name.startswith(PIXELS) else f"model.visual_tokenizer.{name}": value
        for name, value in state.items()
    }
