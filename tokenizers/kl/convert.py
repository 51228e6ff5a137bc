"""Convert published checkpoints of KL autoencoders and back; missing and unused tensors are errors.

Latent diffusion's ("High-Resolution Image Synthesis with Latent Diffusion Models", 2022), and the KL-16 of MAR
("Autoregressive Image Generation without Vector Quantization", 2024), which Hi-MAR and xAR use unchanged. Sizes are
read from shapes; the side of the pictures and the scale of the latents are arguments, because no weight gives them.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.tokenizers.common.convert import AutoencoderSizes, filled, ldm_name, published
from arzoo.tokenizers.common.convolutional import Attention
from arzoo.tokenizers.kl.network import KLTokenizer, KLTokenizerConfig

OTHERS = {"to_moments.": "quant_conv.", "from_latents.": "post_quant_conv."}
"""Beginnings of published names beside encoder and decoder, by ours."""
TRAINING = "loss."
"""Prefix of the loss networks (LPIPS, discriminator) in training checkpoints; the conversion drops them."""


def kl_table(config: KLTokenizerConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}."""
    with torch.device("meta"):
        names = config.build().state_dict()
    levels = len(config.widths)
    return {f"tokenizer.{name}": Join((ldm_name(name, levels, OTHERS),)) for name in names}


def kl_config(state: StateDict, image_size: int = 256, scale: float | None = None) -> KLTokenizerConfig:
    """Read the sizes of a published KL autoencoder. Arguments and errors as in `from_ldm_kl`."""
    sizes = AutoencoderSizes(state, "a KL autoencoder of latent diffusion")

    def attention(half: str) -> Attention:
        if any(re.match(rf"{half}\.(down|up)\.\d+\.attn\.", key) for key in state):
            return "deepest"
        return "middle" if f"{half}.mid.attn_1.q.weight" in state else "none"

    encoder, decoder = sizes.widths("encoder.down", "block"), sizes.widths("decoder.up", "block")
    config = KLTokenizerConfig(
        image_size=image_size,
        widths=encoder,
        decoder_widths=() if decoder == encoder else decoder,
        encoder_blocks=sizes.count("encoder.down.0.block"),
        decoder_blocks=sizes.count("decoder.up.0.block"),
        unshuffle=sizes.unshuffle(),
        channels=sizes.shape("post_quant_conv.weight")[0],
        encoder_attention=attention("encoder"),
        decoder_attention=attention("decoder"),
    )
    if scale is None and config.replace(image_size=256) != registry.lookup("tokenizer", "kl_16")():
        raise ArzooError(
            "the scale of these latents is not among the weights, and only that of MAR's KL-16 is known here: give the "
            "published one, for example --set scale=0.18215 (in Python: scale=0.18215)"
        )
    return config if scale is None else config.replace(scale=scale)


def is_ldm_kl(state: StateDict) -> bool:
    """Whether the tensors have the names of latent diffusion's KL autoencoders (its VQ ones also have a codebook)."""
    autoencoder = {"encoder.down.0.block.0.conv1.weight", "quant_conv.weight"} <= state.keys()
    return autoencoder and not any(key.startswith("quantize.") for key in state)


def from_ldm_kl(state: StateDict, image_size: int = 256, scale: float | None = None) -> Conversion:
    """Convert a KL autoencoder of latent diffusion or MAR. Loss networks in a training checkpoint are dropped.

    Args:
        state: Published tensors.
        image_size: Side of the pictures it was trained on.
        scale: One over the standard deviation of its latents; only that of MAR's KL-16 is known here.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others; or the scale is unknown.
    """
    state = {name: value for name, value in state.items() if not name.startswith(TRAINING)}
    config = kl_config(state, image_size, scale)
    return filled("ldm_kl", config, state, kl_table(config))


def to_ldm_kl(tokenizer: KLTokenizer) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout."""
    return published(tokenizer, kl_table(tokenizer.config))
