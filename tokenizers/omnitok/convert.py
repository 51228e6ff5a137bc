"""Convert published OmniTokenizer checkpoints and back; missing and unknown tensors are errors.

Sizes are read from shapes. Published code holds weights that it never uses, which are dropped: the norms and biases of
`unused`, and the codebook of a VAE. So are the averages from which training moves the codebook, and the networks of
its loss. What no shape says is read from the arguments in the file, see `settings_of_file`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, some
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.convert import filled, published
from arzoo.tokenizers.omnitok.layers import offsets
from arzoo.tokenizers.omnitok.network import OmniTokenizerConfig
from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer

TRAINING = ("image_discriminator.", "video_discriminator.", "perceptual_model.", "video_perceptual_model.")
"""Prefixes of the networks of the loss in training checkpoints; the conversion drops them."""

AVERAGES = ("codebook.N", "codebook.z_avg", "codebook.codebook_usage")
"""Moving averages of the published training of the codebook, and its record of used codes."""

# Our name -> published name, applied in this order.
_NAMES = (
    (r"^encoder\.(space|time)\.", r"encoder.enc_\1_transformer."),
    (r"^decoder\.(space|time)\.", r"decoder.dec_\1_transformer."),
    (r"_space_", "_spatial_"),
    (r"_time_", "_temporal_"),
    (r"_transformer\.norm\.weight$", "_transformer.norm_out.gamma"),
    (r"\.blocks\.(\d+)\.convolution\.", r".layers.\1.0.dsconv."),
    (r"\.blocks\.(\d+)\.attention\.norm\.weight$", r".layers.\1.1.norm.gamma"),
    (r"\.blocks\.(\d+)\.attention\.(q|kv|out)\.", r".layers.\1.1.to_\2."),
    (r"\.blocks\.(\d+)\.attention\.table$", r".layers.\1.1.relative_position_bias_table"),
    (r"\.blocks\.(\d+)\.attention\.", r".layers.\1.1."),
    (r"\.blocks\.(\d+)\.bias\.layers\.2\.", r".layers.\1.1.spatial_rel_pos_bias.net.2."),
    (r"\.blocks\.(\d+)\.bias\.layers\.(\d)\.", r".layers.\1.1.spatial_rel_pos_bias.net.\2.0."),
    (r"\.blocks\.(\d+)\.feed\.norm\.", r".layers.\1.3.0."),
    (r"\.blocks\.(\d+)\.feed\.up\.", r".layers.\1.3.1."),
    (r"\.blocks\.(\d+)\.feed\.down\.", r".layers.\1.3.4."),
    (r"^encoder\.first\.(\d)", lambda m: f"encoder.to_patch_emb_first_frame.{int(m[1]) + 1}"),
    (r"^encoder\.rest\.(\d)", lambda m: f"encoder.to_patch_emb.{int(m[1]) + 1}"),
    (r"^decoder\.first\.", "decoder.to_pixels_first_frame.0."),
    (r"^decoder\.rest\.", "decoder.to_pixels.0."),
    (r"^to_latents\.", "pre_vq_conv.1."),
    (r"^from_latents\.", "post_vq_conv.1."),
    (r"^quantizer\.embedding\.weight$", "codebook.embeddings"),
)

_ARGUMENTS = {
    "resolution": "image_size",
    "sequence_length": "frames",
    "causal_in_temporal_transformer": "causal_attention",
    "causal_in_peg": "causal_convolution",
    "l2_code": "unit_latents",
}
"""Published argument -> our setting. Released files spell "causal" as "casual"."""

_FIXED = {
    "image_channels": 3,
    "patch_embed": "linear",
    "defer_temporal_pool": False,
    "defer_spatial_pool": False,
    "gen_upscale": None,
    "use_external_codebook": False,
}
"""Published arguments of which one value is supported."""


def published_name(name: str) -> str:
    """Published name of a weight of `OmniTokenizer`."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)  # type: ignore[arg-type]
    return name


def omnitok_table(config: OmniTokenizerConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}; the record of used codes is not published."""
    with torch.device("meta"):
        names = [name for name in config.build().state_dict() if name != "quantizer.recent"]
    return {f"tokenizer.{name}": Join((published_name(name),)) for name in names}


def unused(name: str, config: OmniTokenizerConfig) -> bool:
    """Whether published code has a tensor of this name and computes nothing from it.

    These are the norms of cross-attention, which no released model has; the bias of offsets in blocks over time, and
    where it is computed but not added also in blocks over space; and the codebook where tokens are vectors.
    """
    if re.search(r"\.context_norm\.(gamma|beta)$", name) or name in AVERAGES:
        return True
    if ".spatial_rel_pos_bias." in name:
        return "_temporal_transformer." in name or not (config.biased and not config.rotary)
    return name == "codebook.embeddings" and not config.vocab


def settings_of_file(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `from_omnitok` from the arguments of the published training, with either spelling of "causal".

    Raises:
        ArzooError: An argument asks for something that is not supported.
    """
    arguments = {name.replace("casual_", "causal_"): value for name, value in arguments.items()}
    for name, allowed in _FIXED.items():
        if arguments.get(name, allowed) != allowed:
            raise ArzooError(
                f"the file says {name}={arguments[name]!r} of OmniTokenizer; only {allowed!r} is supported, as in the "
                "released models"
            )
    return {ours: arguments[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in arguments}


def omnitok_config(state: StateDict, **settings: Any) -> OmniTokenizerConfig:
    """Read the sizes of a published tokenizer. Settings and errors as in `from_omnitok`."""
    sizes = Sizes(state, "OmniTokenizer")
    encoder, decoder = "encoder.enc_spatial_transformer.layers", "decoder.dec_spatial_transformer.layers"
    time = "encoder.enc_temporal_transformer.layers"
    first, rest = (sizes.shape(f"encoder.to_patch_emb{part}.2.weight") for part in ("_first_frame", ""))
    head_width = sizes.shape(f"{time}.0.1.q_scale")[0]

    def blocks(layers: str) -> str:
        windowed = (
            f"{layers}.{i}.1.relative_position_bias_table" in state for i in range(sizes.count(layers))
        )
        return "".join("w" if window else "t" for window in windowed)

    kinds = {"encoder_blocks": blocks(encoder), "decoder_blocks": blocks(decoder)}
    tables = [name for name in state if name.endswith(".relative_position_bias_table")]
    if tables:
        kinds["window"] = (round(sizes.shape(tables[0])[0] ** 0.5) + 1) // 2  # type: ignore[assignment]
    channels = sizes.shape("post_vq_conv.1.weight")[1]
    vectors = sizes.shape("pre_vq_conv.1.weight")[0] == 2 * channels
    return OmniTokenizerConfig(
        patch=round((first[1] // 3) ** 0.5),
        time_patch=rest[1] // first[1],
        width=first[0],
        heads=sizes.shape(f"{time}.0.1.to_q.weight")[0] // head_width,
        head_width=head_width,
        hidden=sizes.shape(f"{time}.0.3.4.weight")[1],
        time_blocks=sizes.count(time),
        vocab=0 if vectors else sizes.shape("codebook.embeddings")[0],
        channels=channels,
        rotary=not any(
            "_spatial_transformer." in name and ".spatial_rel_pos_bias." in name for name in state
        ),
        **kinds,  # type: ignore[arg-type]
        **settings,
    )


def is_omnitok(state: StateDict) -> bool:
    """Whether the tensors have the names of OmniTokenizer."""
    return {"encoder.to_patch_emb_first_frame.2.weight", "pre_vq_conv.1.weight"} <= state.keys()


def from_omnitok(
    state: StateDict,
    image_size: int = 256,
    frames: int = 17,
    causal_attention: bool = True,
    causal_convolution: bool = True,
    unit_latents: bool = True,
    biased: bool = False,
    scale: float = 1.0,
) -> Conversion:
    """Convert OmniTokenizer, with codes or with vectors.

    Args:
        state: Published tensors.
        image_size: Side of the frames it was trained on.
        frames: Frames of the clips it was trained on.
        causal_attention: See `OmniTokenizerConfig`.
        causal_convolution: See `OmniTokenizerConfig`.
        unit_latents: See `OmniTokenizerConfig`.
        biased: See `OmniTokenizerConfig`; of the released models only `imagenet_only` needs it.
        scale: One over the standard deviation of the latents of a VAE; none was published.

    Raises:
        ArzooError: A tensor is missing, unknown, has a shape that does not fit the others, or a fixed one has another
            value than published code gives it.
    """
    config = omnitok_config(
        state, image_size=image_size, frames=frames, causal_attention=causal_attention, scale=scale, biased=biased,
        causal_convolution=causal_convolution, unit_latents=unit_latents,
    )  # fmt: skip
    kept = {
        name: value
        for name, value in state.items()
        if not name.startswith(TRAINING) and not unused(name, config) and not _constant(name, value, config)
    }
    return filled("omnitok", config, kept, omnitok_table(config))


def _constant(name: str, value: Tensor, config: OmniTokenizerConfig) -> bool:
    """Whether a tensor is one that published code computes and files hold all the same.

    Raises:
        ArzooError: It is, and has another value.
    """
    if name.endswith(".beta"):
        expected = torch.zeros_like(value)
    elif name.endswith(".relative_position_index"):
        expected = offsets(config.window, config.window, value.device)
    else:
        return False
    if value.device.type != "meta" and not torch.equal(value, expected):
        raise ArzooError(
            f"{some([name])} is not what OmniTokenizer computes there: this file is of another version"
        )
    return True


def to_omnitok(tokenizer: OmniTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout, without what published code does not use."""
    return published(tokenizer, omnitok_table(tokenizer.config))
