"""Provenance of a figure: the measured weights, the software and the date; and whether those weights are present.

A protocol says how to measure, so that unlike figures are not compared. The provenance says which weights were measured
and how they sampled, so that the figure is not attributed to others. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from arzoo.base import runtime

MEASURED = "measured"
"""Key of the provenance in a stored figure; figures of older versions have none."""
_DIGITS = 12


def weights_in(index: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of all networks by part, with a generator's tokenizer and text encoder.

    Args:
        index: Index of a checkpoint.
    """
    hashes = {part: facts.get("weights") for part, facts in index.get("parts", {}).items()}
    hashes |= {
        name: index.get(name, {}).get("sha256") for name in ("tokenizer", "text") if name not in hashes
    }
    return {name: str(sha256) for name, sha256 in hashes.items() if sha256}


def provenance(weights: Mapping[str, str], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a figure as plain data.

    Args:
        weights: The sha256 by part, empty for pictures of unknown origin.
        sampling: Plan, control, seeds and number of the pictures, as far as they apply.
    """
    versions = runtime.versions()
    return {
        **({"weights": dict(weights)} if weights else {}),
        "sampling": dict(sampling),
        "versions": {name: versions[name] for name in ("arzoo", "commit", "torch")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def stale(figure: Any, index: Mapping[str, Any]) -> str:
    """Return why a figure is not of the weights that are present; empty if it is, or has no provenance.

    Args:
        figure: An entry of `metrics.json`.
        index: Index of its checkpoint.
    """
    measured = figure.get(MEASURED) if isinstance(figure, Mapping) else None
    weights = measured.get("weights") if isinstance(measured, Mapping) else None
    if not isinstance(weights, Mapping):
        return ""
    here = weights_in(index)
    other = [
        f"{part} {str(sha256)[:_DIGITS]}, not {here[part][:_DIGITS]}"
        for part, sha256 in weights.items()
        if part in here and here[part] != sha256
    ]
    return f"measured of other weights than those that are here: {'; '.join(other)}" if other else ""


def in_words(measured: Mapping[str, Any]) -> str:
    """Format provenance in a few words, for a table."""
    weights, versions = measured.get("weights", {}), measured.get("versions", {})
    parts = [str(measured.get("date", ""))]
    parts += [f"{part} {str(sha256)[:_DIGITS]}" for part, sha256 in weights.items()]
    parts += [f"{name} {versions[name]}" for name in ("arzoo", "torch") if versions.get(name)]
    return ", ".join(filter(None, parts))
