"""Convert published KARL checkpoints and back; missing and unused tensors are errors.

A checkpoint contains its base autoencoder and loss networks, which are dropped. Sizes are read from shapes; the numbers
of attention heads and of used slots are arguments, because no weight gives them.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common.convert import Conversion, Join, StateDict
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.common.convert import AutoencoderSizes, filled, published
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.karl.network import KarlConfig
from arzoo.tokenizers.karl.tokenizer import Karl
from arzoo.tokenizers.kl.convert import kl_config, kl_table
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

EMA_FIRST = True
"""Training checkpoints are read with their averaged weights, as in published inference."""

TRAINING = "gan_losses."
"""Prefix of the loss networks in training checkpoints; the conversion drops them."""

_NAMES = (
    (r"^encoder\.patches\.", "patch_embed."),
    (r"^encoder\.positions$", "encoder_positional_embedding"),
    (r"^encoder\.slots$", "latent_tokens"),
    (r"^encoder\.qualities$", "rec_loss_embeddings"),
    (r"^encoder\.norm_in\.", "encoder_ln_pre."),
    (r"^encoder\.norm_out\.", "encoder_ln_post."),
    (r"^encoder\.norm_halt\.", "encoder_ln_post_halt."),
    (r"^encoder\.halt1\.", "halting_mlp.0."),
    (r"^encoder\.halt2\.", "halting_mlp.2."),
    (r"^encoder\.output\.", "pre_quantizer_mlp."),
    (r"^decoder\.input\.", "decoder_embed."),
    (r"^decoder\.slots$", "decoder_latent_tokens_timestep_embed"),
    (r"^decoder\.query$", "decoder_mask_token"),
    (r"^decoder\.positions$", "decoder_positional_embedding"),
    (r"^decoder\.norm_in\.", "decoder.ln_pre."),
    (r"^decoder\.norm_out\.", "decoder.ln_post."),
    (r"^decoder\.head1\.", "decoder.ffn.0."),
    (r"^decoder\.head2\.", "decoder.ffn.2."),
    (r"^quantizer\.", "quantize."),
    (r"\.blocks\.", ".transformer."),
    (r"\.norm1\.", ".ln_1."),
    (r"\.norm2\.", ".ln_2."),
    (r"\.qkv\.(weight|bias)$", r".attn.in_proj_\1"),
    (r"\.proj\.", ".attn.out_proj."),
    (r"\.up\.", ".mlp.c_fc."),
    (r"\.down\.", ".mlp.c_proj."),
)

# Names of MaskGIT's autoencoder: ours -> published; `_maskgit_name` renumbers the levels of the decoder.
_MASKGIT = (
    (r"^codebook\.", "quantize.embedding."),
    (r"^encoder\.levels\.(\d+)\.", r"encoder.down.\1.block."),
    (r"^decoder\.levels\.(\d+)\.", r"decoder.up.\1.block."),
    (r"^decoder\.upsamples\.(\d+)\.", r"decoder.up.\1.upsample."),
    (r"\.middle\.0\.", ".mid.block_1."),
    (r"\.middle\.1\.", ".mid.block_2."),
    (r"\.shortcut\.", ".nin_shortcut."),
)


def is_karl(state: StateDict) -> bool:
    """Whether the tensors have the names of KARL."""
    return "rec_loss_embeddings" in state


def karl_table(config: KarlConfig) -> dict[str, Join]:
    """Published name of each weight, {"tokenizer.NAME": published name}; the record of used codes is not published."""
    with torch.device("meta"):
        names = [name for name in Karl(config).state_dict() if name != "quantizer.recent"]
    if isinstance(config.base, MaskGITConfig):
        last = len(config.base.widths) - 1
        inner = {name: f"vqgan.{_maskgit_name(name, last)}" for name in map(_base_name, names) if name}
    else:
        table = kl_table(config.base)
        inner = {name.partition(".")[2]: f"vae.{join.names[0]}" for name, join in table.items()}
    return {f"tokenizer.{name}": Join((_published(name, inner),)) for name in names}


def _base_name(name: str) -> str:
    return name.removeprefix("base.") if name.startswith("base.") else ""


def _published(name: str, inner: dict[str, str]) -> str:
    if name.startswith("base."):
        return f"base_tokenizer.{inner[_base_name(name)]}"
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _maskgit_name(name: str, last: int) -> str:
    # Published decoders number their levels from the finest, ours in the order of execution.
    name = re.sub(
        r"^decoder\.(levels|upsamples)\.(\d+)", lambda m: f"decoder.{m[1]}.{last - int(m[2])}", name
    )
    for pattern, replacement in _MASKGIT:
        name = re.sub(pattern, replacement, name)
    return name


def karl_config(state: StateDict, heads: tuple[int, int] = (8, 8), slots: int = 256) -> KarlConfig:
    """Read the sizes of a published tokenizer. Arguments and errors as in `from_karl`."""
    sizes = Sizes(state, "KARL")
    table = sizes.shape("encoder_positional_embedding")
    factor = sizes.shape("patch_embed.weight")[-1]
    grid = 16 if table[-1] % 16 == 0 else table[-1]
    side = grid * factor
    base_prefix = "base_tokenizer.vqgan."
    if f"{base_prefix}quantize.embedding.weight" in state:
        vqgan = AutoencoderSizes(
            {n.removeprefix(base_prefix): v for n, v in state.items() if n.startswith(base_prefix)}, "KARL"
        )
        vocab, channels = vqgan.shape("quantize.embedding.weight")
        base: MaskGITConfig | KLTokenizerConfig = MaskGITConfig(
            widths=vqgan.widths("encoder.down", "block"),
            blocks=vqgan.count("encoder.down.0.block"),
            channels=channels,
            vocab=vocab,
        )
    else:
        vae = {
            name.removeprefix("base_tokenizer.vae."): value
            for name, value in state.items()
            if name.startswith("base_tokenizer.vae.")
        }
        base = kl_config(vae, side, scale=0.2325)
    return KarlConfig(
        image_size=side,
        base=base,
        encoder=StackConfig(width=table[0], depth=sizes.count("encoder.transformer"), heads=heads[0]),
        decoder=StackConfig(
            width=sizes.shape("decoder_mask_token")[-1],
            depth=sizes.count("decoder.transformer"),
            heads=heads[1],
        ),
        slots=slots,
        table_slots=sizes.shape("latent_tokens")[0],
        table_side=table[-1],
        channels=sizes.shape("pre_quantizer_mlp.weight")[0],
        vocab=state["quantize.embedding.weight"].shape[0] if "quantize.embedding.weight" in state else 0,
    )


def from_karl(state: StateDict, heads: tuple[int, int] = (8, 8), slots: int = 256) -> Conversion:
    """Convert KARL with its base autoencoder; loss networks in a training checkpoint are dropped.

    Args:
        state: Published tensors.
        heads: Attention heads of encoder and decoder; 8 and 8 in all published weights.
        slots: Latent slots per picture; 256 in published use.

    Raises:
        ArzooError: A tensor is missing, unused, or has a shape that does not fit the others.
    """
    state = {name: value for name, value in state.items() if not name.startswith(TRAINING)}
    if not is_karl(state):
        raise ArzooError("not KARL: tensor 'rec_loss_embeddings' is missing")
    config = karl_config(state, heads, slots)
    return filled("karl", config, state, karl_table(config))


def to_karl(tokenizer: Karl) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout."""
    return published(tokenizer, karl_table(tokenizer.config))
