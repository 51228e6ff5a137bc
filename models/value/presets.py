"""Value models by name."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.models.value.network import ValueConfig


@register("value")
def token_value() -> ValueConfig:
    """Expected score of the final picture after every step (TVM)."""
    return ValueConfig()


@register("value")
def length_value() -> ValueConfig:
    """Number of tokens that a picture still needs, after every step (LenVM)."""
    return ValueConfig(target="length")
