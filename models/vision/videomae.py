"""VideoMAE-v2 as a network of clips, that of content-debiased FVD.

"VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", 2023; "On the Content Bias in Frechet Video
Distance", 2024. The published file has ViT-g with tubes of 2 x 14 x 14, fine-tuned on Something-Something v2; features
are the mean over all tokens after a last normalization. Clips have 16 frames, squashed to 224 x 224 and scaled to
[0, 1], without ImageNet's mean and deviation. The package transformers has the network, under other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256
from arzoo.base.registry import register
from arzoo.models.vision.features import FeatureNet, Features, read_pickle
from arzoo.models.vision.resize import resize_half_pixel

FILE = "vit_g_hybrid_pt_1200e_ssv2_ft.pth"
PUBLISHED = "5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70"
"""SHA-256 of the published file."""
_SIDE, _FRAMES, _HEADS = 224, 16, 16
_NAMES = (
    (r"^patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"videomae.encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"videomae.encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.q_bias$", r"videomae.encoder.layer.\1.attention.attention.query.bias"),
    (r"^blocks\.(\d+)\.attn\.v_bias$", r"videomae.encoder.layer.\1.attention.attention.value.bias"),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"videomae.encoder.layer.\1.attention.attention.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"videomae.encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"videomae.encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"videomae.encoder.layer.\1.output.dense."),
    (r"^head\.", "classifier."),
)
"""Published names, and those of transformers; `qkv` is split afterwards, `fc_norm` has the same name in both."""


class VideoMAE(FeatureNet):
    """Normalized mean of the tokens of VideoMAE-v2.

    Args:
        path: The published file; by default in the folder of torch's hub.
        heads: Heads of the attention, which no weight tells.

    Raises:
        MissingPackage: transformers is not installed.
        ArzooError: The weights are not on this machine, or do not fit.
    """

    name = "videomae2_vitg"
    of_clips = True
    least_frames = _FRAMES
    groups = (1, 4)
    resize = "224x224 bilinear, half-pixel centres, no antialias, squashed"
    scaling = "x / 255"

    def __init__(self, path: str | None = None, heads: int = _HEADS) -> None:
        super().__init__()
        file = Path(path) if path else _find(self.name)
        self.sha256 = file_sha256(file)
        self.net = read_videomae(file, heads).eval()
        self.width = self.net.config.hidden_size  # type: ignore[union-attr, assignment]

    def read(self, x: Tensor) -> Features:
        """Compute the features of clips (B, 3, 16, H, W) in 0..255."""
        if x.shape[2] != _FRAMES:
            raise ArzooError(
                f"{self.name} takes clips of {_FRAMES} frames, these have {x.shape[2]}: --frames {_FRAMES}"
            )
        frames = resize_half_pixel(x.transpose(1, 2).flatten(0, 1) / 255, _SIDE, _SIDE)
        tokens = self.net.videomae(frames.unflatten(0, (len(x), -1))).last_hidden_state  # type: ignore[operator, union-attr]
        return Features(self.net.fc_norm(tokens.mean(1)))  # type: ignore[operator]


@register("feature_net")
def videomae2_vitg(path: str | None = None) -> FeatureNet:
    """VideoMAE-v2 ViT-g fine-tuned on Something-Something v2; the network of content-debiased FVD."""
    return VideoMAE(path)


def read_videomae(file: Path, heads: int) -> nn.Module:
    """Read the published state dictionary into transformers' network.

    Raises:
        ArzooError: The file holds something else.
    """
    transformers = require("transformers", "text")
    published = read_pickle(file)
    try:
        kernel = published["patch_embed.proj.weight"]
        (width, _, tube, patch, _), hidden = kernel.shape, published["blocks.0.mlp.fc1.bias"].shape[0]
        depth = 1 + max(int(match[1]) for match in map(_BLOCK.match, published) if match)
        config = transformers.VideoMAEConfig(
            image_size=_SIDE, patch_size=patch, num_frames=_FRAMES, tubelet_size=tube, hidden_size=width,
            num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=hidden, qkv_bias=True,
            layer_norm_eps=1e-6, use_mean_pooling=True, num_labels=published["head.bias"].shape[0],
        )  # fmt: skip
        net: nn.Module = transformers.VideoMAEForVideoClassification(config)
        net.load_state_dict(renamed(published))
        net.fc_norm.eps = config.layer_norm_eps  # type: ignore[union-attr, assignment]  # transformers leaves 1e-5
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArzooError(f"{file} does not hold VideoMAE-v2: {error}") from error
    return net


_BLOCK = re.compile(r"blocks\.(\d+)\.")


def renamed(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published weights to those of transformers, and split those of queries, keys and values."""
    state: dict[str, Tensor] = {}
    for name, value in published.items():
        for pattern, new in _NAMES:
            name = re.sub(pattern, new, name)
        if name.endswith("attention.qkv.weight"):
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            state |= {name.replace("qkv", part): weight for part, weight in parts}
        else:
            state[name] = value
    return state


def _find(name: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if path.exists():
        return path
    raise ArzooError(
        f"the weights of {name} are not on this machine. Put {FILE} into {path.parent}, or give the file: "
        f"--net {name}=FILE. Without it, the default network clip_probe works offline."
    )
