"""Protocol: what must be known of a score to compare it with another one, and the figures that carry it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Better = Literal["lower", "higher"]
_WORDS_ONLY = frozenset({"reference", "seeds"})
"""Fields that say more of what the hashes or the rules already decide; two runs may differ in them."""


@dataclass(frozen=True)
class Protocol:
    """How a score was made.

    Attributes:
        net: Feature network.
        net_sha256: Hash of its weights.
        resize: How pictures are brought to its size.
        reference: Data set and split, folder or file.
        reference_sha256: Hash of the reference pictures, or of the file when only statistics are there.
        n: Number of scored pictures, None when their statistics do not say.
        n_reference: Number of reference pictures, None likewise.
        size: Height and width of the pictures.
        seeds: How the seeds of the pictures follow from the request.
        labels: How their classes were chosen.
        format: How pictures were rounded and stored.
    """

    net: str
    net_sha256: str
    resize: str
    reference: str
    reference_sha256: str
    n: int | None
    n_reference: int | None
    size: str
    seeds: str
    labels: str
    format: str = "uint8, rounded, lossless"

    def to_dict(self) -> dict[str, Any]:
        """The protocol as plain data."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Protocol:
        """Inverse of `to_dict`; keys of newer versions are ignored.

        Raises:
            KeyError: A field is missing.
        """
        return Protocol(**{field.name: data[field.name] for field in fields(Protocol)})

    @property
    def key(self) -> str:
        """Eight digits that are equal for scores that may be compared."""
        decisive = {name: value for name, value in self.to_dict().items() if name not in _WORDS_ONLY}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def summary(self) -> str:
        """One line."""
        against = f"{self.reference} ({self.n_reference or 'statistics'})"
        return f"{self.n or 'statistics of'} pictures of {self.size} against {against} in {self.net}"

    def differences(self, other: Protocol) -> list[str]:
        """What keeps two scores from being compared."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{name} {str(mine[name])[:40]!r} and {str(theirs[name])[:40]!r}"
            for name in mine
            if name not in _WORDS_ONLY and mine[name] != theirs[name]
        ]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        value: The number.
        error: Its standard error from the bootstrap, None where it was not or cannot be taken.
        better: Whether lower or higher is better, None where neither is.
        definition: Settings of the metric; figures of different definitions do not compare.
    """

    value: float
    error: float | None = None
    better: Better | None = None
    definition: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The figure as plain data."""
        return asdict(self)
