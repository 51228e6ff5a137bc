"""What a network is made for: the typed base of the settings of backbones and heads.

A setting of the same name, or a property, overrides what is said here. What fits is found by comparing these, and
networks are sized for a tokenizer and a plan by `fitted`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from arzoo.base.config import Config
from arzoo.core.layout import Layout

C = TypeVar("C", bound="CanvasConfig")


@dataclass(frozen=True, kw_only=True)
class CanvasConfig(Config):
    """Settings of a network that reads or draws the tokens of a canvas."""

    @property
    def layout(self) -> Layout | None:
        """Positions it has tables for; None is any."""
        return None

    @property
    def vocab(self) -> int:
        """Codes of a token; 0 is any, or none where it has channels."""
        return 0

    @property
    def codebooks(self) -> int:
        """Codes a position."""
        return 1

    @property
    def channels(self) -> int:
        """Numbers a continuous token has; 0 is any, or none where it has a vocabulary."""
        return 0

    @property
    def axes(self) -> int | None:
        """Readouts a position; None is any."""
        return None

    @property
    def extras(self) -> int:
        """Learned transition inputs."""
        return 0

    @classmethod
    def has(cls, *settings: str) -> bool:
        """Whether all of these are settings, which `replace` can change."""
        return {field.name for field in dataclasses.fields(cls)}.issuperset(settings)

    def fitted(self: C, offered: Mapping[str, Any], required: Collection[str] = ()) -> C:
        """A copy with those of the offered values that are settings of it; `required` ones must be.

        Raises:
            ArzooError: A required one is no setting, or a value is of another type or out of range.
        """
        return self.replace(**{k: value for k, value in offered.items() if k in required or self.has(k)})


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(CanvasConfig):
    """Settings of a backbone: also what it is conditioned on."""

    @property
    def axes(self) -> int:
        """Readouts a position."""
        return 1

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""
        return 0

    @property
    def text_width(self) -> int:
        """Channels of caption features, 0 for a model without captions."""
        return 0

    @property
    def text_length(self) -> int:
        """Tokens of a caption."""
        return 0
