"""Checkpoints of TokenUnify and back: fine-tuned, pre-trained, and those with a head of the next token.

Sizes are read from shapes. Files hold the optimizer and arguments beside the weights, under `model`, and names of some
begin with `module.`; both are seen to where files are read.
"""

from __future__ import annotations

import math

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.volumes import Size, in_words
from arzoo.models.common.convert import Conversion, Join, StateDict, fill, merge, split
from arzoo.models.common.sizes import Sizes
from arzoo.models.tokenunify.network import ResamplerConfig, SegMamba, SegMambaConfig

_BRANCHES = {"forth": "", "back": "_b", "across": "_s"}
"""Our names of the scans of a layer, and the published suffixes."""
_LOCAL = {"near1": "proj", "near2": "proj2", "point": "proj3", "output": "proj4"}
_BOTH = ("weight", "bias")


def layer_table(ours: str, theirs: str) -> dict[str, Join]:
    """Map the weights of a `MambaLayer` to published tensors.

    Args:
        ours: Prefix of our names.
        theirs: Prefix of the published names.
    """
    names = {f"norm.{kind}": f"norm.{kind}" for kind in _BOTH}
    names |= {f"mixer.{name}.weight": f"mamba.{name}.weight" for name in ("in_proj", "out_proj")}
    for branch, suffix in _BRANCHES.items():
        names |= {f"mixer.{branch}.A_log": f"mamba.A{suffix}_log", f"mixer.{branch}.D": f"mamba.D{suffix}"}
        for name in ("conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias"):
            module, kind = name.split(".")
            names[f"mixer.{branch}.{name}"] = f"mamba.{module}{suffix}.{kind}"
    return {ours + name: Join((theirs + published,)) for name, published in names.items()}


def tokenunify_table(config: SegMambaConfig) -> dict[str, Join]:
    """Map each weight to published tensors, {"segmenter.NAME": published names}."""
    count = len(config.widths)
    table, pairs = dict[str, Join](), dict[str, str]()
    for i in range(count):
        ours = f"stages.{i}."
        pairs[f"{ours}down"] = f"vit.downsample_layers.{i}.{min(i, 1)}"
        pairs |= {f"{ours}local.{name}": f"vit.gscs.{i}.{published}" for name, published in _LOCAL.items()}
        pairs |= {f"{ours}side.{name}": f"vit.mlps.{i}.{name}" for name in ("fc1", "fc2")}
        for j in range(config.depths[i]):
            table |= layer_table(f"segmenter.{ours}layers.{j}.", f"vit.stages.{i}.{j}.")
    pairs["out"] = "out.conv.conv"
    if config.resampler is not None:
        pairs |= {f"resampler.convolutions.{i}": f"preciever.conv{i + 1}" for i in range(3)}
        pairs["resampler.output"] = "preciever.mlp"
    for name, published in pairs.items():
        table |= {f"segmenter.{name}.{kind}": Join((f"{published}.{kind}",)) for kind in _BOTH}
    levels = (config.in_channels, *config.widths, config.hidden)
    for i in range(count + 1):
        table |= _block_table(f"skips.{i}.", f"encoder{i + 1}.layer.", levels[i] != levels[i + 1])
    for i in range(count):
        theirs = f"decoder{count + 1 - i}."
        table[f"segmenter.ups.{i}.up.weight"] = Join((f"{theirs}transp_conv.conv.weight",))
        table |= _block_table(f"ups.{i}.block.", f"{theirs}conv_block.", True)
    return table | _block_table("last.", "decoder1.layer.", False)


def _block_table(ours: str, theirs: str, projected: bool) -> dict[str, Join]:
    """Map the weights of a `ResidualBlock`, whose residual may be projected."""
    names = {"conv1": "conv1", "conv2": "conv2"} | ({"skip": "conv3"} if projected else {})
    return {
        f"segmenter.{ours}{name}.weight": Join((f"{theirs}{n}.conv.weight",)) for name, n in names.items()
    }


def is_tokenunify(state: StateDict) -> bool:
    """Return whether tensors are named like those of TokenUnify's network."""
    return {"vit.downsample_layers.0.0.weight", "encoder1.layer.conv1.conv.weight"} <= state.keys()


def tokenunify_config(state: StateDict, slices: int, crop: Size, patch: Size) -> SegMambaConfig:
    """Read the sizes of a published network. Arguments and errors as those of `from_tokenunify`."""
    sizes = Sizes(state, "a checkpoint of TokenUnify")
    count = sizes.count("vit.downsample_layers")
    widths = tuple(sizes.shape(f"vit.downsample_layers.{i}.{min(i, 1)}.weight", 5)[0] for i in range(count))
    layer = "vit.stages.0.0.mamba."
    inner, state_size = sizes.shape(f"{layer}A_log", 2)
    first = sizes.shape("encoder1.layer.conv1.conv.weight", 5)
    return SegMambaConfig(
        widths=widths,
        depths=tuple(sizes.count(f"vit.stages.{i}") for i in range(count)),
        hidden=sizes.shape(f"encoder{count + 1}.layer.conv1.conv.weight", 5)[0],
        kernel=(first[2], first[3], first[4]),
        in_channels=first[1],
        out_channels=sizes.shape("out.conv.conv.weight", 5)[0],
        state_size=state_size,
        expand=inner // widths[0],
        taps=sizes.shape(f"{layer}conv1d.weight", 3)[2],
        slices=slices,
        resampler=_resampler(sizes, crop, patch) if "preciever.mlp.weight" in state else None,
    )


def _resampler(sizes: Sizes, crop: Size, patch: Size) -> ResamplerConfig:
    """Read the sizes of the head of the next token, which only products of sides tell."""
    config = ResamplerConfig(crop=crop, patch=patch, width=sizes.shape("preciever.conv1.weight", 5)[0])
    outputs, inputs = sizes.shape("preciever.mlp.weight", 2)
    # Three convolutions halve every axis, rounding up, as does this division.
    voxels = math.prod(-(-side // 8) for side in crop)
    if (outputs, inputs) != (math.prod(patch), voxels):
        raise ArzooError(
            f"the head of the next token has {inputs} inputs and {outputs} outputs, but volumes of {in_words(crop)} "
            f"voxels and tokens of {in_words(patch)} need {voxels} and {math.prod(patch)}: give the sides of its "
            "training, --set crop=[Z,Y,X] patch=[Z,Y,X] (in Python: crop=, patch=)"
        )
    return config


def from_tokenunify(
    state: StateDict, slices: int = 5, crop: Size = (16, 160, 160), patch: Size = (4, 16, 16)
) -> Conversion:
    """Convert TokenUnify's SegMamba, arXiv 2405.16847.

    Args:
        state: Published tensors.
        slices: Parts of the scans across slices, which shapes do not tell; 5 as published.
        crop: (z, y, x) of the volumes that the head of the next token was trained on, if there is one.
        patch: (z, y, x) of its tokens.

    Raises:
        ArzooError: A tensor is missing or unused, has a shape that does not fit the others, or the head of the next
            token is for other volumes.
    """
    config = tokenunify_config(state, slices, crop, patch)
    weights = {name: value.clone() for name, value in merge(state, tokenunify_table(config)).items()}
    return Conversion("tokenunify", fill({"segmenter": config.build()}, weights))


def to_tokenunify(network: SegMamba) -> dict[str, Tensor]:
    """Convert a network to the published layout."""
    weights = {f"segmenter.{name}": value for name, value in network.state_dict().items()}
    return split(weights, tokenunify_table(network.config))
