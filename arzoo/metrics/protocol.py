"""Protocol: the conditions under which two scores may be compared, and the figures that carry it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Better = Literal["lower", "higher"]
_WORDS_ONLY = frozenset({"reference", "seeds"})
"""Fields that only describe what hashes or rules already determine; comparable scores may differ in them."""
_OF_PRESETS = ("preset", "scaling", "ddof", "kid", "splits", "neighbors")
_OF_CLIPS = ("frames", "fps", "stride", "start", "given")
_OPTIONAL = frozenset({*_OF_PRESETS, *_OF_CLIPS})
"""Fields that only presets and clips set; unset ones are not part of the protocol."""


@dataclass(frozen=True)
class Protocol:
    """How a score was measured.

    Attributes:
        net: Feature network.
        net_sha256: Hash of its weights.
        resize: How pictures are brought to its size.
        reference: Data set and split, folder or file.
        reference_sha256: Hash of the reference pictures, or of the file if only statistics are known.
        n: Number of scored pictures, None if their statistics do not record it.
        n_reference: Number of reference pictures, None if unknown.
        size: Height and width of the pictures.
        seeds: How the seeds of the pictures follow from the request.
        labels: How their classes were chosen.
        format: How pictures were rounded and stored.
        preset: Published tool that the figures follow (`arzoo.metrics.presets`), None for our own.
        scaling: How the network scales values from 0 to 255.
        ddof: A covariance divides by the number of pictures minus this.
        kid: Subsets of the kernel distance.
        splits: Parts of the Inception score.
        neighbors: Neighbors of precision and recall.
        frames: Frames of a clip that are scored, None for pictures.
        fps: Frames per second.
        stride: Frames of a file from the beginning of a clip to that of the next.
        start: Where in a file the first clip begins.
        given: Frames that were given to the generator.
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
    preset: str | None = None
    scaling: str | None = None
    ddof: int | None = None
    kid: str | None = None
    splits: str | None = None
    neighbors: str | None = None
    frames: str | None = None
    fps: float | None = None
    stride: int | None = None
    start: str | None = None
    given: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as plain data."""
        return {
            name: value for name, value in asdict(self).items() if value is not None or name not in _OPTIONAL
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Protocol:
        """Invert `to_dict`; keys of newer versions are ignored.

        Raises:
            KeyError: A field is missing.
        """
        names = [field.name for field in fields(Protocol)]
        return Protocol(**{name: data[name] for name in names if name in data or name not in _OPTIONAL})

    @property
    def key(self) -> str:
        """Eight digits, equal for scores that may be compared."""
        decisive = {name: value for name, value in self.to_dict().items() if name not in _WORDS_ONLY}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def summary(self) -> str:
        """The protocol in one line."""
        against = f"{self.reference} ({self.n_reference or 'statistics'})"
        tool = f" as by {self.preset}" if self.preset else ""
        noun = f"clips ({self.frames} frames)" if self.frames else "pictures"
        return f"{self.n or 'statistics of'} {noun} of {self.size} against {against} in {self.net}{tool}"

    def differences(self, other: Protocol) -> list[str]:
        """Return the differences that keep two scores from being compared."""
        mine, theirs = asdict(self), asdict(other)
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
        error: Its standard error from the bootstrap, None if it was not or cannot be computed.
        no_error: Why it can have no error, empty if it can.
        better: Whether lower or higher is better, None where neither is.
        definition: Settings of the metric; figures of different definitions do not compare.
    """

    value: float
    error: float | None = None
    better: Better | None = None
    definition: str = ""
    no_error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as plain data."""
        plain = asdict(self)
        return (
            plain if self.no_error else {name: value for name, value in plain.items() if name != "no_error"}
        )
