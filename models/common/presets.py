"""Tables of published sizes as registered backbones."""

from __future__ import annotations

from collections.abc import Mapping

from arzoo.base.registry import register
from arzoo.models.common.modulation import ModulatedConfig


def register_stacks(
    family: str, config: type[ModulatedConfig], sizes: Mapping[str, tuple[int, int, int]], what: str
) -> None:
    """Register sizes of a network with two equal stacks as FAMILY_SIZE.

    Args:
        family: First part of the names.
        config: Config class of the network.
        sizes: Width, blocks of each stack and heads, by name of the size.
        what: Description for the listing.
    """
    for size, (width, depth, heads) in sizes.items():

        def preset(width: int = width, depth: int = depth, heads: int = heads) -> ModulatedConfig:
            return config(width=width, encoder_depth=depth, decoder_depth=depth, heads=heads)

        preset.__doc__ = f"{what}, 1000 classes: width {width}, 2 x {depth} blocks, {heads} heads."
        register("backbone", f"{family}_{size}")(preset)
