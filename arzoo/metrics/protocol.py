"""Protocol: what must be known of a score to compare it with another one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """How a score was made.

    Attributes:
        net: Feature network.
        net_sha256: Hash of its weights.
        resize: How pictures are brought to its size.
        reference: Data set and split.
        reference_sha256: Hash of the reference pictures.
        n: Number of scored pictures.
        n_reference: Number of reference pictures.
        seeds: How the seeds of the pictures follow from the request.
        labels: How their classes were chosen.
        format: How pictures were rounded and stored.
    """

    net: str
    net_sha256: str
    resize: str
    reference: str
    reference_sha256: str
    n: int
    n_reference: int
    seeds: str
    labels: str
    format: str = "uint8, rounded, in memory"

    def to_dict(self) -> dict[str, Any]:
        """The protocol as plain data."""
        return asdict(self)
