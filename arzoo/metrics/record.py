"""Figures beside what they were measured on: `metrics.json` of a checkpoint, or `evaluation.json` of an output folder.

A figure is stored as `NAME@PROTOCOL`, where PROTOCOL are the digits of `Protocol.key`: measuring again replaces it,
another protocol stands beside it. It carries its protocol and its provenance (`arzoo.checkpoints.provenance`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.base.files import write_text
from arzoo.base.lock import alone
from arzoo.base.walk import tree
from arzoo.checkpoints import store
from arzoo.checkpoints.card import model_card
from arzoo.checkpoints.folder import Checkpoint
from arzoo.checkpoints.index import METRICS, read_index, read_metrics, sealed_metrics
from arzoo.checkpoints.names import BUNDLED, HUB, resolve
from arzoo.checkpoints.provenance import MEASURED, stale
from arzoo.metrics.protocol import Protocol

EVALUATION = "evaluation.json"
FOLDERS = ("runs", "checkpoints", "out")
"""Where the leaderboard looks beside the shipped checkpoints."""


@dataclass(frozen=True)
class Entry:
    """One figure of one subject.

    Attributes:
        subject: Checkpoint or samples.
        figure: Name of the figure.
        value: The number.
        error: Its standard error, or None.
        better: "lower", "higher" or None.
        definition: Settings of the metric.
        protocol: How it was made.
        doubt: Why it is no figure of this subject as it is now, empty if it may be one.
    """

    subject: str
    figure: str
    value: float
    error: float | None
    better: str | None
    definition: str
    protocol: Protocol
    doubt: str = ""

    @property
    def group(self) -> str:
        """Equal for entries that may be compared."""
        return f"{self.figure}@{self.protocol.key} {self.definition}"


def writable(name: str, checkpoint: Checkpoint) -> str:
    """Empty if figures may be written into a checkpoint, else why not."""
    if checkpoint.folder.resolve().parent == BUNDLED.resolve():
        return f"{name} comes with the package and is left as it is"
    if name.startswith(HUB):
        return f"{name} is a copy of the hub and is left as it is"
    if not os.access(checkpoint.folder, os.W_OK):
        return f"{checkpoint.folder} cannot be written"
    return ""


def record(checkpoint: Checkpoint, document: dict[str, Any]) -> None:
    """Add the figures of an evaluation to a checkpoint, whole or not at all; the others stay.

    Another process that adds figures at the same time waits. The model card is written again unless it was edited.

    Args:
        checkpoint: Where to.
        document: With `figures`, `protocol` and `measured`.
    """
    with alone(checkpoint.folder, "adds figures to", wait=True):
        path, *card = files_of_record(checkpoint)
        after = checkpoint.metrics | flat(document)
        write_text(path, json.dumps(sealed_metrics(after), indent=2, ensure_ascii=False) + "\n")
        for path in card:
            write_text(path, model_card(checkpoint.folder.name, checkpoint.index, after))


def files_of_record(checkpoint: Checkpoint) -> list[Path]:
    """What `record` writes: the metrics, and the model card if it is the one that was generated."""
    folder = checkpoint.folder
    card, generated = folder / "README.md", model_card(folder.name, checkpoint.index, checkpoint.metrics)
    as_it_was = card.exists() and card.read_text(encoding="utf-8") == generated
    return [folder / METRICS, *([card] if as_it_was else [])]


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """Figures by `NAME@PROTOCOL`, each with its protocol and, unless an older version wrote them, its provenance."""
    beside = {name: document[name] for name in ("protocol", MEASURED) if name in document}
    key = Protocol.from_dict(document["protocol"]).key
    return {f"{name}@{key}": {**figure, **beside} for name, figure in document["figures"].items()}


def entries(folders: tuple[str, ...] = FOLDERS) -> tuple[list[Entry], dict[str, str]]:
    """All figures with a protocol: of shipped, named and downloaded checkpoints, and of what lies in some folders.

    Returns:
        The figures, and by checkpoint why none of its figures can be believed.
    """
    roots = [Path(folder) for folder in folders if Path(folder).is_dir()]
    found, problems, known = [], {}, {}
    for checkpoint in store.entries(roots):
        known[checkpoint.name] = checkpoint.index
        if not checkpoint.problem and checkpoint.metrics_problem:
            problems[checkpoint.name] = checkpoint.metrics_problem
        found += [] if checkpoint.problem else _entries(checkpoint.name, checkpoint.metrics, checkpoint.index)
    for root in roots:
        written = [path for path in tree(root).files if path.name == EVALUATION]
        for path in sorted(written, key=lambda path: path.stat().st_mtime):
            found += _evaluation(path, known)
    return found, problems


def entries_of(name: str) -> list[Entry]:
    """Figures of one checkpoint by any of its names, or of an output folder by its path.

    Raises:
        ArzooError: There is nothing of that name, or its figures were changed after they were written.
    """
    try:
        folder = resolve(name)
    except ArzooError as error:
        path = Path(name) / EVALUATION
        if path.exists():
            return [replace(entry, subject=name) for entry in _evaluation(path, {})]
        if name.startswith(HUB):
            raise
        raise ArzooError(
            f"{name} is no checkpoint and holds no {EVALUATION}. Measure it first: arzoo evaluate {name} --out FOLDER"
        ) from error
    return _entries(name, read_metrics(folder), read_index(folder))


def _evaluation(path: Path, known: Mapping[str, Any]) -> list[Entry]:
    """Figures of an output folder; those of a known checkpoint that has other weights now are of another subject."""
    document = _json(path)
    try:
        subject = str(document["subject"])
        index = known.get(subject)
        if index and "weights" in document:
            parts = index.get("parts", {}).values()
            exchanged = all(document["weights"] != part["weights"][:12] for part in parts)
            if exchanged or stale(document, index):
                subject += f" ({document['weights']})"  # measured before it was trained again
        return _entries(subject, flat(document), {})
    except (KeyError, TypeError, AttributeError):
        return []  # written by another version, or by something else


def _entries(subject: str, metrics: Mapping[str, Any], index: Mapping[str, Any]) -> list[Entry]:
    found = []
    for key, stored in metrics.items():
        try:
            protocol = Protocol.from_dict(stored["protocol"])
            value, name = float(stored["value"]), key.partition("@")[0]
            error = None if stored.get("error") is None else float(stored["error"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # a figure without protocol compares with nothing
        if not math.isfinite(value) or (error is not None and not math.isfinite(error)):
            continue  # nor does what is no number
        definition = str(stored.get("definition", ""))
        doubt = stale(stored, index)
        found.append(Entry(subject, name, value, error, stored.get("better"), definition, protocol, doubt))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
