"""Provenance: what a figure was measured of, with what, and when; and whether that is still what is there.

A protocol says how to measure, so that unlike figures are not compared. This says of which weights a figure is and how
they drew, so that it is not read as a figure of others. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from arzoo.base import runtime

MEASURED = "measured"
"""Entry of a stored figure with its provenance; figures of older versions have none."""
_DIGITS = 12


def weights_in(index: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of everything that draws or decodes, by part: a generator's tokenizer and text encoder too.

    Args:
        index: Of a checkpoint.
    """
    found = {part: facts.get("weights") for part, facts in index.get("parts", {}).items()}
    found |= {name: index.get(name, {}).get("sha256") for name in ("tokenizer", "text") if name not in found}
    return {name: str(sha256) for name, sha256 in found.items() if sha256}


def provenance(weights: Mapping[str, str], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What goes beside a figure, as plain data.

    Args:
        weights: The sha256 by part, empty when pictures were measured whose origin nobody knows.
        sampling: Plan, control, seeds and number of the pictures, as far as there are any.
    """
    versions = runtime.versions()
    return {
        **({"weights": dict(weights)} if weights else {}),
        "sampling": dict(sampling),
        "versions": {name: versions[name] for name in ("arzoo", "commit", "torch")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def stale(figure: Any, index: Mapping[str, Any]) -> str:
    """Why a stored figure is not one of the weights that are there, empty if it is or does not say.

    Args:
        figure: An entry of `metrics.json`.
        index: Of the checkpoint beside it.
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
    """Provenance in a few words, for a table."""
    weights, versions = measured.get("weights", {}), measured.get("versions", {})
    parts = [str(measured.get("date", ""))]
    parts += [f"{part} {str(sha256)[:_DIGITS]}" for part, sha256 in weights.items()]
    parts += [f"{name} {versions[name]}" for name in ("arzoo", "torch") if versions.get(name)]
    return ", ".join(filter(None, parts))
