"""Convert published FlexTok checkpoints and back; missing and unused tensors are errors.

A published file is a flat state dict; the tensors of its autoencoder have diffusers' names. Sizes and settings are in a
configuration that names classes. It is read as data, and unknown classes are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, nearest
from arzoo.base.files import read_json
from arzoo.base.paths import expanded
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge, split
from arzoo.models.common.sizes import Sizes
from arzoo.tokenizers.flextok.network import FlexTokConfig, StackConfig
from arzoo.tokenizers.flextok.tokenizer import FlexTok
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.quantizers.fsq import FSQ

_ENCODER, _DECODER = "encoder.module_dict.", "decoder.module_dict."

# Our name -> published name. `attention.qkv` and `mlp.gate_up` join several published tensors, see `_join`.
_NAMES = (
    (r"^encoder\.input\.", f"{_ENCODER}enc_patch_emb.patch_proj."),
    (r"^encoder\.positions$", f"{_ENCODER}enc_posemb_module.posembs"),
    (r"^encoder\.registers$", f"{_ENCODER}enc_register_module.registers"),
    (r"^encoder\.output\.", f"{_ENCODER}enc_to_latents.proj."),
    (r"^encoder\.blocks\.", f"{_ENCODER}enc_transformer.blocks."),
    (r"^decoder\.from_codes\.", f"{_DECODER}dec_from_latents.proj."),
    (r"^decoder\.places$", f"{_DECODER}dec_registers_posemb_module.posembs"),
    (r"^decoder\.absent$", f"{_DECODER}dec_nested_dropout.dropout_mask_token"),
    (r"^decoder\.null$", f"{_DECODER}dec_latent_dropout.nullcond"),
    (r"^decoder\.input\.", f"{_DECODER}dec_noise_patch_emb.patch_proj."),
    (r"^decoder\.positions$", f"{_DECODER}dec_patches_posemb_module.posembs"),
    (r"^decoder\.time\.fc1\.", f"{_DECODER}dec_time_embedder.mlp.0."),
    (r"^decoder\.time\.fc2\.", f"{_DECODER}dec_time_embedder.mlp.2."),
    (r"^decoder\.final\.", f"{_DECODER}dec_to_patches.adaLN_modulation.1."),
    (r"^decoder\.output\.", f"{_DECODER}dec_to_patches.proj."),
    (r"^decoder\.blocks\.", f"{_DECODER}dec_transformer.blocks."),
    (r"\.attention\.", ".attn."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
    (r"\.modulation\.", ".adaLN_modulation.1."),
)

# Names of the autoencoder: ours -> diffusers'.
_AUTOENCODER = (
    (r"^encoder\.levels\.", "encoder.down_blocks."),
    (r"^decoder\.levels\.", "decoder.up_blocks."),
    (r"^(encoder\..*)\.resample\.", r"\1.downsamplers.0."),
    (r"^(decoder\..*)\.resample\.", r"\1.upsamplers.0."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.middle\.1\.(q|k|v)\.", r".mid_block.attentions.0.to_\1."),
    (r"\.middle\.1\.proj\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.blocks\.", ".resnets."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"^to_moments\.", "quant_conv."),
    (r"^from_latents\.", "post_quant_conv."),
)

_CLASSES = frozenset(
    f"flextok.{name}"
    for name in (
        "flextok_wrapper.FlexTok",
        "vae_wrapper.StableDiffusionVAE",
        "model.utils.wrappers.SequentialModuleDictWrapper",
        "model.utils.dict_ops.PerSampleOp",
        "model.utils.dict_ops.channels_first_to_last",
        "model.utils.dict_ops.channels_last_to_first",
        "model.preprocessors.patching.PatchEmbedder",
        "model.utils.posembs.PositionalEmbeddingAdder",
        "model.preprocessors.registers.Registers1D",
        "model.preprocessors.flex_seq_packing.BlockWiseSequencePacker",
        "model.trunks.transformers.FlexTransformer",
        "model.postprocessors.seq_unpacking.SequenceUnpacker",
        "model.postprocessors.heads.LinearHead",
        "model.postprocessors.heads.ToPatchesLinearHead",
        "model.preprocessors.linear.LinearLayer",
        "model.preprocessors.token_dropout.MaskedNestedDropout",
        "model.preprocessors.nullcond.LearnedNullCond",
        "model.preprocessors.time_embedding.TimestepEmbedder",
        "regularizers.quantize_fsq.FSQ",
        "flow_matching.noise_modules.MinRFNoiseModule",
        "flow_matching.pipelines.MinRFPipeline",
    )
)
"""Classes of published configurations whose arithmetic `network.py` implements."""

_FIXED: dict[str, Any] = {
    "use_mup_readout": False, "posemb_scaling": "absolute", "ordering_mode": "nested", "adaLN_expansion": 2,
    "head_dim": 64, "frequency_embedding_size": 256,
    "enc_posemb_module.posemb_type": "sincos", "dec_patches_posemb_module.posemb_type": "sincos",
    "dec_registers_posemb_module.posemb_type": "learnable_sum",
    "enc_seq_packer.mask_mode": "causal_last", "dec_seq_packer.mask_mode": "full",
}  # fmt: skip
"""The only value of settings, of any part or of one, that `network.py` implements, where a configuration has them."""

_LENGTHS = {"uniform": "uniform", "pow2": "powers", "uniform_pow2": "powers_above"}


def is_flextok(state: StateDict) -> bool:
    """Whether the tensors have the names of FlexTok."""
    return f"{_ENCODER}enc_register_module.registers" in state


def flextok_table(config: FlexTokConfig) -> dict[str, Join]:
    """Published tensors of each weight, {"tokenizer.NAME": published names}."""
    with torch.device("meta"):
        names = FlexTok(config).state_dict()
    return {f"tokenizer.{name}": _join(name) for name in names}


def _join(name: str) -> Join:
    if name.startswith("base."):
        name = name.removeprefix("base.")
        for pattern, replacement in _AUTOENCODER:
            name = re.sub(pattern, replacement, name)
        return Join((f"vae.vae.{name}",))
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    for joined, parts in ((".qkv.", (".wq.", ".wk.", ".wv.")), (".gate_up.", (".fc1.", ".fc3."))):
        if joined in name:
            return Join(tuple(name.replace(joined, part) for part in parts))
    return Join((name,))


def flextok_config(state: StateDict, config: Mapping[str, Any]) -> FlexTokConfig:
    """Read the sizes of a published tokenizer, and the settings that shapes do not give.

    Args:
        state: Published tensors.
        config: The published configuration.

    Raises:
        ArzooError: The configuration names an unknown class, lacks a setting, or has one that is not supported.
    """
    unknown = sorted({name for name in _classes(config) if name not in _CLASSES})
    if unknown:
        raise ArzooError(
            f"the configuration names parts that are not known here: {', '.join(unknown)}. Known are those of the "
            "published d12-d12, d18-d18 and d18-d28"
        )
    sizes = Sizes(state, "FlexTok")
    vae = _group(config, "vae")
    parts = {**_parts(config, "encoder"), **_parts(config, "decoder")}
    for name in parts:
        _refuse_unsupported(name, _group(parts, name))

    def setting(part: Mapping[str, Any], name: str, of: str) -> Any:
        if name not in part:
            raise ArzooError(f"the configuration of FlexTok has no {name!r} in {of}")
        return part[name]

    def stack(name: str) -> StackConfig:
        part = _group(parts, name)
        return StackConfig(width=setting(part, "dim", name), depth=setting(part, "depth", name))

    widths = tuple(
        sizes.shape(f"vae.vae.encoder.down_blocks.{i}.resnets.0.conv1.weight")[0]
        for i in range(sizes.count("vae.vae.encoder.down_blocks"))
    )
    if setting(vae, "sample_posterior", "vae"):
        raise ArzooError("the configuration samples latents when it encodes; only their mean is supported")
    autoencoder = KLTokenizerConfig(
        widths=widths,
        encoder_blocks=sizes.count("vae.vae.encoder.down_blocks.0.resnets"),
        decoder_blocks=sizes.count("vae.vae.decoder.up_blocks.0.resnets"),
        channels=sizes.shape("vae.vae.post_quant_conv.weight")[0],
        encoder_attention="middle",
        decoder_attention="middle",
        scale=setting(vae, "scaling_factor", "vae"),
    )
    rows, columns = setting(_group(parts, "enc_patch_emb"), "patch_sizes", "enc_patch_emb")
    if rows != columns:
        raise ArzooError(f"patch_sizes in enc_patch_emb are {rows} and {columns}; only squares are supported")
    patch = rows
    grid = sizes.shape(f"{_ENCODER}enc_posemb_module.posembs")[-1]
    side = grid * patch * autoencoder.factor
    mode = _group(parts, "dec_nested_dropout").get("size_sampling_mode", "pow2")
    if mode not in _LENGTHS:
        raise ArzooError(
            f"unknown size_sampling_mode in dec_nested_dropout {mode!r}.{nearest(mode, _LENGTHS)}"
        )
    return FlexTokConfig(
        image_size=side,
        base=autoencoder.replace(image_size=side),
        patch=patch,
        encoder=stack("enc_transformer"),
        decoder=stack("dec_transformer"),
        registers=sizes.shape(f"{_ENCODER}enc_register_module.registers")[0],
        levels=tuple(setting(_group(config, "regularizer"), "levels", "regularizer")),
        longest_time=float(_group(parts, "dec_time_embedder").get("max_timestep", 1000.0)),
        lengths=_LENGTHS[mode],  # type: ignore[arg-type]
        null_probability=_group(parts, "dec_latent_dropout").get("dropout_prob", 0.0),
        align_after=next(iter(_group(parts, "dec_transformer").get("intermediate_layers", ())), 1),
    )


def _parts(config: Mapping[str, Any], half: str) -> dict[str, Any]:
    return dict(_group(_group(config, half), "module_dict"))


def _group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Settings of a part, none if the configuration does not have it."""
    value = config.get(name, {}) if isinstance(config, Mapping) else config
    if not isinstance(value, Mapping):
        raise ArzooError(
            f"the configuration of FlexTok must have settings by name in {name!r}, got {value!r}. Give the published "
            "config.json"
        )
    return value


def _refuse_unsupported(part: str, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        allowed = _FIXED.get(f"{part}.{name}", _FIXED.get(name, value))
        if value != allowed:
            raise ArzooError(
                f"{name} of {part} is {value!r} in the configuration; only {allowed!r} is supported"
            )


def _classes(config: Any) -> Iterator[str]:
    """Every class that a configuration names, at any depth."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from _classes(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _classes(value)


def from_flextok(state: StateDict, config: str = "") -> Conversion:
    """Convert FlexTok with its autoencoder.

    Args:
        state: Published tensors.
        config: Path of the JSON file with the published configuration.

    Raises:
        ArzooError: There is no such file, or as `flextok_of`.
    """
    if not config:
        raise ArzooError(
            "converting a FlexTok checkpoint needs its configuration, for settings that shapes do not give: give the "
            "published config.json, for example --set config=config.json (in Python: config='config.json')"
        )
    path = Path(expanded(config))
    if not path.is_file():
        raise ArzooError(f"there is no file {path}: give the config.json that was published with the weights")
    return flextok_of(state, read_json(path))


def flextok_of(state: StateDict, config: Mapping[str, Any]) -> Conversion:
    """Convert FlexTok with its autoencoder, from its tensors and its configuration.

    Raises:
        ArzooError: As `flextok_config`; or a tensor is missing, unused, or has a shape that does not fit.
    """
    settings = flextok_config(state, config)
    weights = merge(state, flextok_table(settings))
    with torch.device("meta"):
        tokenizer = FlexTok(settings)
    tokenizer.quantizer = FSQ(
        settings.levels
    )  # the record of used codes is in no checkpoint, so meta would stay
    shapes = {f"tokenizer.{name}": value.shape for name, value in tokenizer.state_dict().items()}
    # Attention of diffusers' autoencoders has linear layers where ours has 1x1 convolutions.
    weights = {
        name: value.view(shapes[name]) if value.numel() == shapes[name].numel() else value
        for name, value in weights.items()
    }
    return Conversion("flextok", fill({"tokenizer": tokenizer}, weights))


def to_flextok(tokenizer: FlexTok) -> dict[str, Tensor]:
    """Convert a tokenizer to the published layout."""
    weights = {f"tokenizer.{name}": value for name, value in tokenizer.state_dict().items()}
    weights = {
        name: value.flatten(1)
        if re.search(r"^tokenizer\.base\..*\.middle\.1\.(q|k|v|proj)\.weight$", name)
        else value
        for name, value in weights.items()
    }
    return split(weights, flextok_table(tokenizer.config))
