"""Figures beside what they were measured on: `metrics.json` of a checkpoint, or `evaluation.json` of an output folder.

A figure is stored as `NAME@PROTOCOL`, where PROTOCOL are the digits of `Protocol.key`: measuring again replaces it,
another protocol stands beside it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arzoo import store
from arzoo.checkpoint import Checkpoint
from arzoo.errors import ArzooError
from arzoo.locate import BUNDLED, HUB, listing, resolve
from arzoo.metrics.protocol import Protocol
from arzoo.modelcard import model_card

EVALUATION = "evaluation.json"
METRICS = "metrics.json"
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
    """

    subject: str
    figure: str
    value: float
    error: float | None
    better: str | None
    definition: str
    protocol: Protocol

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

    The model card is written again unless somebody has edited it.

    Args:
        checkpoint: Where to.
        document: With `figures` and `protocol`.
    """
    path, *card = files_of_record(checkpoint)
    after = checkpoint.metrics | flat(document)
    _replace(path, json.dumps(after, indent=2, ensure_ascii=False) + "\n")
    for path in card:
        _replace(path, model_card(checkpoint.folder.name, checkpoint.index, after))


def files_of_record(checkpoint: Checkpoint) -> list[Path]:
    """What `record` writes: the metrics, and the model card if it is the one that was generated."""
    folder = checkpoint.folder
    card, generated = folder / "README.md", model_card(folder.name, checkpoint.index, checkpoint.metrics)
    as_it_was = card.exists() and card.read_text(encoding="utf-8") == generated
    return [folder / METRICS, *([card] if as_it_was else [])]


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """Figures by `NAME@PROTOCOL`, each with its protocol."""
    protocol = document["protocol"]
    key = Protocol.from_dict(protocol).key
    return {f"{name}@{key}": {**figure, "protocol": protocol} for name, figure in document["figures"].items()}


def entries(folders: tuple[str, ...] = FOLDERS) -> list[Entry]:
    """All figures with a protocol: of shipped, named and downloaded checkpoints, and of what lies in some folders."""
    roots = [Path(folder) for folder in folders if Path(folder).is_dir()]
    found = []
    for checkpoint in store.entries(roots):
        found += [] if checkpoint.problem else _entries(checkpoint.name, checkpoint.metrics)
    for root in roots:
        for path in sorted(root.rglob(EVALUATION), key=lambda path: path.stat().st_mtime):
            found += _evaluation(path)
    return found


def entries_of(name: str) -> list[Entry]:
    """Figures of one checkpoint by any of its names, or of an output folder by its path.

    Raises:
        ArzooError: There is nothing of that name.
    """
    try:
        return _entries(name, _json(resolve(name) / METRICS))
    except ArzooError as error:
        path = Path(name) / EVALUATION
        if path.exists():
            return [Entry(**{**vars(entry), "subject": name}) for entry in _evaluation(path)]
        if name.startswith(HUB):
            raise
        raise ArzooError(
            f"{name} is no checkpoint and holds no {EVALUATION}. Measure it first: arzoo evaluate {name} --out FOLDER"
        ) from error


def _evaluation(path: Path) -> list[Entry]:
    document = _json(path)
    try:
        subject = str(document["subject"])
        shipped = listing(BUNDLED).get(subject)
        if shipped and all(document["weights"] != part["weights"][:12] for part in shipped["parts"].values()):
            subject += f" ({document['weights']})"  # measured before it was trained again
        return _entries(subject, flat(document))
    except (KeyError, TypeError, AttributeError):
        return []  # written by another version, or by something else


def _entries(subject: str, metrics: Any) -> list[Entry]:
    found = []
    for key, stored in metrics.items() if isinstance(metrics, dict) else ():
        try:
            protocol = Protocol.from_dict(stored["protocol"])
            value, name = float(stored["value"]), key.partition("@")[0]
            error = None if stored.get("error") is None else float(stored["error"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # a figure without protocol compares with nothing
        definition = str(stored.get("definition", ""))
        found.append(Entry(subject, name, value, error, stored.get("better"), definition, protocol))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
