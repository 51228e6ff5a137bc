"""Storage of figures: `metrics.json` of a checkpoint, or `evaluation.json` of an output folder.

A figure is stored as `NAME@PROTOCOL`, where PROTOCOL is `Protocol.key`: measuring again replaces the figure, and
figures of other protocols are kept beside it. It carries its protocol and provenance (`arzoo.checkpoints.provenance`).
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
from arzoo.checkpoints.card import card_of
from arzoo.checkpoints.folder import Checkpoint
from arzoo.checkpoints.index import METRICS, read_index, read_metrics, sealed_metrics
from arzoo.checkpoints.names import BUNDLED, HUB, resolve
from arzoo.checkpoints.provenance import MEASURED, stale
from arzoo.checkpoints.runs import is_state, run_of
from arzoo.metrics.protocol import Protocol

EVALUATION = "evaluation.json"
FOLDERS = ("runs", "checkpoints", "out")
"""Folders that the leaderboard reads besides the shipped checkpoints."""


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
        protocol: How it was measured.
        doubt: Why the figure is not of the present weights of the subject, empty if it may be.
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
    """Return why figures may not be written into a checkpoint, empty if they may."""
    if checkpoint.folder.resolve().parent == BUNDLED.resolve():
        return f"{name} comes with the package and is left as it is"
    if name.startswith(HUB):
        return f"{name} is a copy of the hub and is left as it is"
    if is_state(checkpoint.folder):
        return f"{run_of(checkpoint.folder)} is not finished, and its training removes older states"
    if not os.access(checkpoint.folder, os.W_OK):
        return f"{checkpoint.folder} cannot be written"
    return ""


def record(checkpoint: Checkpoint, document: dict[str, Any]) -> None:
    """Add the figures of an evaluation to a checkpoint, completely or not at all; its other figures stay.

    Another process that adds figures at the same time waits. The model card is written again unless it was edited.

    Args:
        checkpoint: The checkpoint.
        document: Evaluation with `figures`, `protocol` and `measured`.
    """
    with alone(checkpoint.folder, "adds figures to", wait=True):
        path, *card = files_of_record(checkpoint)
        metrics = checkpoint.metrics | flat(document)
        write_text(path, json.dumps(sealed_metrics(metrics), indent=2, ensure_ascii=False) + "\n")
        for path in card:
            write_text(path, card_of(checkpoint.folder))


def files_of_record(checkpoint: Checkpoint) -> list[Path]:
    """Return the files that `record` writes: the metrics, and the model card unless it was edited."""
    folder = checkpoint.folder
    card, generated = folder / "README.md", card_of(folder)
    unedited = card.exists() and card.read_text(encoding="utf-8") == generated
    return [folder / METRICS, *([card] if unedited else [])]


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return figures by `NAME@PROTOCOL`, each with its protocol and, except in old files, its provenance."""
    beside = {name: document[name] for name in ("protocol", MEASURED) if name in document}
    key = Protocol.from_dict(document["protocol"]).key
    return {f"{name}@{key}": {**figure, **beside} for name, figure in document["figures"].items()}


def entries(folders: tuple[str, ...] = FOLDERS) -> tuple[list[Entry], dict[str, str]]:
    """Return all figures with a protocol: of shipped, named and downloaded checkpoints, and of those in some folders.

    Returns:
        The figures, and by checkpoint why none of its figures can be trusted.
    """
    roots = [Path(folder) for folder in folders if Path(folder).is_dir()]
    figures, problems, known = [], {}, {}
    for checkpoint in store.entries(roots):
        known[checkpoint.name] = checkpoint.index
        if not checkpoint.problem and checkpoint.metrics_problem:
            problems[checkpoint.name] = checkpoint.metrics_problem
        figures += (
            [] if checkpoint.problem else _entries(checkpoint.name, checkpoint.metrics, checkpoint.index)
        )
    for root in roots:
        written = [path for path in tree(root).files if path.name == EVALUATION]
        for path in sorted(written, key=lambda path: path.stat().st_mtime):
            figures += _evaluation(path, known)
    return figures, problems


def entries_of(name: str) -> list[Entry]:
    """Return the figures of one checkpoint by any of its names, or of an output folder by its path.

    Raises:
        ArzooError: There is no such checkpoint or folder, or its figures were changed after they were written.
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
    """Return the figures of an output folder; if a known checkpoint has other weights now, the subject is renamed."""
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
    figures = []
    for key, stored in metrics.items():
        try:
            protocol = Protocol.from_dict(stored["protocol"])
            value, name = float(stored["value"]), key.partition("@")[0]
            error = None if stored.get("error") is None else float(stored["error"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # a figure without protocol compares with nothing
        if not math.isfinite(value) or (error is not None and not math.isfinite(error)):
            continue  # nor does a value that is not finite
        definition = str(stored.get("definition", ""))
        doubt = stale(stored, index)
        figures.append(Entry(subject, name, value, error, stored.get("better"), definition, protocol, doubt))
    return figures


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
