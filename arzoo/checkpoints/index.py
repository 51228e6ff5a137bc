"""The index and the figures of a checkpoint: reading and validating them.

A checkpoint may come from a stranger, so names in it are checked before they become paths. Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import SEAL, damaged, read_json, seal
from arzoo.checkpoints.migrations import controls
from arzoo.samplers.schedules import control_from_data
from arzoo.version import __version__

if TYPE_CHECKING:
    from arzoo.core.control import Control

INDEX = "model_index.json"
FORMAT = 1
KINDS = ("tokenizer", "generator", "value", "segmenter")
METRICS = "metrics.json"
PICTURE = "preview.png"
"""File beside the card with pictures of the model."""

_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FACTS: dict[str, type] = {
    "spec": dict, "plan": dict, "controls": dict, "classes": list, "tokenizer": dict, "base": dict, "text": dict,
    "training": dict, "generator": dict, "judge": dict, "fps": float,
}  # fmt: skip


def read_index(folder: Path) -> dict[str, Any]:
    """Read and check the index of a checkpoint folder.

    Raises:
        ArzooError: It is missing, damaged, of another format, or has an invalid entry.
    """
    path = folder / INDEX
    index = read_json(path)
    if not isinstance(index, dict) or not {"format", "kind", "parts"} <= index.keys():
        raise ArzooError(
            f"{path} is not an index of arzoo. Bring a published model in with: arzoo convert SRC DST"
        )
    if index["format"] != FORMAT:
        raise ArzooError(
            f"{folder} has checkpoint format {index['format']}, this arzoo {__version__} reads format {FORMAT}. "
            "Upgrade with: pip install --upgrade arzoo"
        )
    wrong = _wrong(index)
    if not wrong and index.get(SEAL) != seal(index):
        wrong = "it was changed after it was written"
    if wrong:
        raise damaged(path, wrong)
    return index


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the figures of a checkpoint folder by name, empty without `metrics.json`; older files carry no seal.

    Raises:
        ArzooError: The file is damaged, or was changed after it was written.
    """
    path = folder / METRICS
    metrics = read_json(path) if path.exists() else {}
    if not isinstance(metrics, dict):
        raise damaged(path, "it is no table of figures")
    if SEAL in metrics and metrics[SEAL] != seal(metrics):
        raise ArzooError(
            f"{path} was changed after it was written: its figures are not those that were measured. Copy the "
            "checkpoint again, or remove the file and measure anew with: arzoo evaluate"
        )
    return {name: figure for name, figure in metrics.items() if name != SEAL}


def is_sealed(folder: Path) -> bool:
    """Return whether the figures of a checkpoint folder carry a seal; without one, changes go unnoticed."""
    path = folder / METRICS
    return path.exists() and SEAL in read_json(path)


def sealed_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `metrics.json` for these figures."""
    plain = json.loads(json.dumps({name: figure for name, figure in metrics.items() if name != SEAL}))
    return {**plain, SEAL: seal(plain)}


def _wrong(index: dict[str, Any]) -> str:
    """Return what is wrong with an index, empty if nothing is."""
    if index["kind"] not in KINDS:
        return f"its kind is {index['kind']!r}, not one of {', '.join(KINDS)}"
    if not isinstance(index["parts"], dict):
        return "its parts are not a table"
    for part, facts in index["parts"].items():
        if not _PART.fullmatch(part):
            return f"{part!r} is no name of a part"
        if not isinstance(facts, dict) or not isinstance(facts.get("parameters"), int):
            return f"part {part!r} does not say how many parameters it has"
        for key in ("sha256", "weights"):
            if not _SHA256.fullmatch(str(facts.get(key))):
                return f"part {part!r} has no {key!r} of 64 hexadecimal digits"
        if "config" in facts and not _SHA256.fullmatch(str(facts["config"])):
            return f"part {part!r} has no 'config' of 64 hexadecimal digits"
    for key, kind in _FACTS.items():
        if not isinstance(index.get(key, kind()), kind):
            return f"its {key!r} is a {type(index[key]).__name__}, not a {kind.__name__}"
    for part, what in (("tokenizer", "tokenizer"), ("base", "base"), ("text", "text encoder")):
        for key in ("name", "sha256"):
            if not isinstance(index.get(part, {}).get(key, ""), str):
                return f"the {key!r} of its {what} is not a text"
    if not isinstance(index.get("tokenizer", {}).get("settings", {}), dict):
        return "the 'settings' of its tokenizer are no table"
    if not all(isinstance(name, str) for name in index.get("classes", [])):
        return "its classes are not all texts"
    return ""


def plan_of(index: Mapping[str, Any], where: Path) -> tuple[str, dict[str, Any]]:
    """Return name and options of a generator's plan.

    Raises:
        ArzooError: The index has none.
    """
    plan = index.get("plan", {})
    name, options = plan.get("name"), plan.get("options", {})
    if not isinstance(name, str) or not isinstance(options, dict):
        raise damaged(where / INDEX, "it does not say in which order to draw ('plan')")
    return name, options


def data_of(index: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and sha256 of the training data of a checkpoint, each empty where the index lacks it.

    A recipe with `codes` did not use its `data`. The name of the data that was encoded is known only if it was recorded
    beside `codes`.
    """
    training = index.get("training", {})
    recipe, lineage = training.get("recipe"), training.get("lineage")
    recipe = recipe if isinstance(recipe, dict) else {}
    stored = lineage.get("data") if isinstance(lineage, dict) else None
    stored = stored if isinstance(stored, dict) else {}
    of_codes = bool(recipe.get("codes"))
    known = not of_codes or "codes" in stored
    name = (stored.get("name") if known else "") or ("" if of_codes else recipe.get("data")) or ""
    return str(name), str(stored.get("sha256") or training.get("data_sha256") or "")


def control_of(index: Mapping[str, Any], where: Path) -> Control:
    """Return the knobs recorded with a generator.

    Raises:
        ArzooError: A knob is unknown, or its value is of another type.
    """
    try:
        return control_from_data(controls(index.get("controls", {})))
    except UnknownName as error:
        raise ArzooError(
            f"{where / INDEX} has a setting that this arzoo {__version__} does not know: {error}"
        ) from error
    except (ArzooError, RecursionError) as error:
        raise damaged(where / INDEX, error) from error
