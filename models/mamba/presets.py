"""Published sizes of AiM, plain stacks of the same size, and models that train on a CPU."""

from __future__ import annotations

from typing import Any

from arzoo.base.registry import register
from arzoo.models.mamba.network import MambaConfig

SIZES: dict[str, tuple[int, int, Any]] = {
    "b": (768, 24, "block"),
    "l": (1024, 48, "group"),
    "xl": (1536, 48, "group"),
}
"""Width, blocks and modulation of the published sizes of AiM."""


def _register(size: str) -> None:
    width, depth, modulation = SIZES[size]

    def config() -> MambaConfig:
        return MambaConfig(width=width, depth=depth, modulation=modulation)

    config.__doc__ = (
        f"AiM, raster, 1000 classes: Mamba-2, width {width}, {depth} blocks, a modulation per {modulation}."
    )
    register("backbone", f"aim_{size}")(config)


for _size in SIZES:
    _register(_size)


@register("backbone")
def mamba1_b() -> MambaConfig:
    """Mamba-1 over codes, 1000 classes as a prefix: width 768, 24 blocks."""
    return MambaConfig(version=1)


@register("backbone")
def mamba2_b() -> MambaConfig:
    """Mamba-2 over codes, 1000 classes as a prefix: width 768, 24 blocks."""
    return MambaConfig()


@register("backbone")
def mamba_tiny() -> MambaConfig:
    """Mamba-2 modulated by the class, for 8 x 8 tokens, that trains on a CPU."""
    return MambaConfig(
        width=256, depth=8, state_size=64, head_width=64, vocab=2048, grid=(1, 8, 8), classes=198, modulation="group",
        shared_dropout=True,
    )  # fmt: skip


@register("backbone")
def mamba1_tiny() -> MambaConfig:
    """Mamba-1 modulated by the class, for 8 x 8 tokens, that trains on a CPU."""
    return mamba_tiny().replace(version=1, state_size=16)


@register("backbone")
def mamba_text_tiny() -> MambaConfig:
    """Mamba-2 for 8 x 8 tokens that trains on a CPU, for captions of up to 16 tokens read by `minilm`."""
    return mamba_tiny().replace(classes=0, text_width=384, text_length=16, modulation="none")
