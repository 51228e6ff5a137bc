"""VAR: published sizes, and one that trains on a CPU."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.var.network import VARConfig

GATES = {16: 1e-3, 20: 1e-3, 24: 1e-4, 30: 1e-5}
"""Published factors of the gates' weights at the beginning, by depth, for 256 x 256."""


def _published(depth: int) -> VARConfig:
    """The published sizes, which follow from the depth."""
    return VARConfig(width=64 * depth, depth=depth, heads=depth, drop_path=0.1 * depth / 24)


def _register(depth: int) -> None:
    def preset() -> VARConfig:
        return _published(depth).replace(gate_init=GATES[depth])

    preset.__doc__ = (
        f"VAR-d{depth}, 256 x 256, 1000 classes: width {64 * depth}, {depth} blocks, {depth} heads."
    )
    register("backbone", f"var_d{depth}")(preset)


for _depth in GATES:
    _register(_depth)


@register("backbone")
def var_d36() -> VARConfig:
    """VAR-d36, 512 x 512, 1000 classes: width 2304, 36 blocks with one modulation, 36 heads."""
    return _published(36).replace(
        shared_modulation=True, levels=(1, 2, 3, 4, 6, 9, 13, 18, 24, 32), gate_init=5e-6
    )


@register("backbone")
def var_tiny() -> VARConfig:
    """Scale-wise model of codes for 6 levels of 1 to 8 x 8 tokens that trains on a CPU."""
    return VARConfig(
        width=192, depth=6, heads=3, vocab=1024, code_channels=16, levels=(1, 2, 3, 4, 6, 8), classes=198,
        drop_path=0.05, gate_init=0.1,
    )  # fmt: skip
