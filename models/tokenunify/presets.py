"""Published sizes of SegMamba, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.tokenunify.network import ResamplerConfig, SegMambaConfig

SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "base": ((32, 64, 128, 256), 512),
    "small": ((64, 128, 256, 512), 1024),
    "mid": ((96, 192, 384, 768), 1024),
    "large": ((144, 288, 576, 1104), 2048),
    "huge": ((192, 384, 768, 1536), 3072),
}
"""Widths of the stages and of the deepest level, by name in the published code; 1104 is not twice 576."""


def _register(size: str) -> None:
    widths, hidden = SIZES[size]

    def config() -> SegMambaConfig:
        return SegMambaConfig(widths=widths, hidden=hidden)

    config.__doc__ = f"SegMamba of affinities: widths {', '.join(map(str, widths))} and {hidden}."
    register("segmenter", f"segmamba_{size}")(config)


for _size in SIZES:
    _register(_size)


@register("segmenter")
def segmamba_ar() -> SegMambaConfig:
    """SegMamba of voxels with a head of the next token, as pre-trained: 3 layers a stage, kernels of 1 x 3 x 3."""
    return SegMambaConfig(depths=(3, 3, 3, 3), kernel=(1, 3, 3), out_channels=1, resampler=ResamplerConfig())


@register("segmenter")
def segmamba_tiny() -> SegMambaConfig:
    """SegMamba of affinities that trains on a CPU: two stages, for windows of 8 x 40 x 40."""
    return SegMambaConfig(widths=(16, 32), depths=(1, 1), hidden=64, kernel=(1, 3, 3))
