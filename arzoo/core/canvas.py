"""The typed base of the settings of backbones and heads: the canvas that a network is made for.

Subclasses override these properties by fields or properties of the same name. Whether parts fit together is decided by
comparing them, and `fitted` sizes a network for a tokenizer and a plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.core.layout import Layout

C = TypeVar("C", bound="CanvasConfig")


@dataclass(frozen=True, kw_only=True)
class CanvasConfig(Config):
    """Settings of a network that reads or draws tokens."""

    @property
    def layout(self) -> Layout | None:
        """Layout that its tables are made for; None means any."""
        return None

    @property
    def vocab(self) -> int:
        """Number of codes; 0 means any, or no codes if it has channels."""
        return 0

    @property
    def codebooks(self) -> int:
        """Codes per position."""
        return 1

    @property
    def channels(self) -> int:
        """Channels of a continuous token; 0 means any, or no vectors if it has a vocabulary."""
        return 0

    @property
    def axes(self) -> int | None:
        """Readouts per position; None means any number."""
        return None

    @property
    def extras(self) -> int:
        """Number of learned extra inputs."""
        return 0

    def require_one_kind(self) -> None:
        """Check that tokens are either codes or vectors.

        Raises:
            ArzooError: They are both or neither.
        """
        if (self.channels > 0) == (self.vocab > 0):
            raise ArzooError(
                f"tokens are vectors or codes, got channels={self.channels}, vocab={self.vocab}: set one to 0"
            )

    @classmethod
    def has(cls, *settings: str) -> bool:
        """Whether all these names are fields, which `replace` can change."""
        return {field.name for field in dataclasses.fields(cls)}.issuperset(settings)

    def fitted(self: C, offered: Mapping[str, Any], required: Collection[str] = ()) -> C:
        """Copy the settings, with the offered values of fields that exist.

        Args:
            offered: Values by name; names that are no field are ignored.
            required: Names that must be fields.

        Raises:
            ArzooError: A required name is no field, or a value has the wrong type or is out of range.
        """
        return self.replace(**{k: value for k, value in offered.items() if k in required or self.has(k)})


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(CanvasConfig):
    """Settings of a backbone, including its conditions."""

    @property
    def axes(self) -> int:
        """Readouts per position."""
        return 1

    @property
    def code_channels(self) -> int:
        """Channels of the vectors of codes that inputs are computed from; 0 if they are not."""
        return 0

    @property
    def shift(self) -> int:
        """Special ids before the codes in a vocabulary that the network shares with its head."""
        return 0

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""
        return 0

    @property
    def text_width(self) -> int:
        """Channels of caption features, 0 without captions."""
        return 0

    @property
    def text_length(self) -> int:
        """Number of tokens of a caption."""
        return 0
