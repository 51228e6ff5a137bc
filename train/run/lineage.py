"""Whether a run that goes on is the one that was begun: its settings, what its weights descend from, its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.checkpoints.folder import WEIGHTS
from arzoo.checkpoints.index import read_index
from arzoo.train.migrations import migrated
from arzoo.train.settings import LOOSE

ORIGINS = {"data": "data", "codes": "data", "tokenizer": "tokenizer", "init": "init"}
"""Settings of a recipe that say where something lies, and where the lineage has its hash."""
_DIGITS = 12
"""Digits of a hash that a message shows."""


def refuse_other(out: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what a saved state was trained with and what the run would go on with.

    Data, codes, tokenizer and initial weights are the same when their hashes are, wherever they lie and however their
    place is spelled.

    Args:
        out: Folder of the run.
        saved: `recipe` and `lineage` of the state; states of older versions have no lineage, and any will do.
        now: The same of the run.

    Raises:
        ArzooError: Settings differ that change the course of a run, or data, tokenizer or initial weights do.
    """
    old, new = saved.get("lineage", {}), now["lineage"]
    known = {setting for setting, origin in ORIGINS.items() if _hashes(old, origin) and _hashes(new, origin)}
    changed = differences(migrated(saved["recipe"]), now["recipe"])
    begin = f"begin another from its state: --resume {out} --out NEW"
    if changed := [name for name in changed if name.removeprefix("run.") not in LOOSE and name not in known]:
        raise ArzooError(
            f"{out} holds a run with other settings (they differ in: {', '.join(changed)}). Continue it with "
            f"the same ones, or {begin}"
        )
    places = [f"{ORIGINS[setting]}.{key}" for setting in known for key in ("name", "codes")]
    if changed := [name for name in differences(old, new) if name not in places]:
        pairs = [f"{name} was {_value(old, name)}, is {_value(new, name)}" for name in changed]
        raise ArzooError(
            f"{out} holds a run on something else than is there now under the same names ({'; '.join(pairs)}): "
            "pictures, captions, names of classes or a checkpoint were changed in between. Bring the former back to "
            f"continue, or {begin}"
        )


def _hashes(lineage: Mapping[str, Any], origin: str) -> bool:
    """Whether the lineage has a hash of where something came from."""
    return any(key in lineage.get(origin, {}) for key in ("sha256", "weights"))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of settings with another value; a setting the old one lacks counts as equal."""
    out = []
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            out += differences(old[key], value, f"{prefix}{key}.")
        elif key in old and old[key] != value:
            out.append(prefix + key)
    return out


def weights_of(folder: Path) -> dict[str, str] | None:
    """Hashes of the weights of every part of a checkpoint; None where there is none that is whole."""
    try:
        parts = read_index(folder)["parts"]
        hashes = {folder / part / WEIGHTS: facts["sha256"] for part, facts in parts.items()}
        settings = {part: facts["config"] for part, facts in parts.items() if "config" in facts}
        hashes |= {folder / part / "config.json": digest for part, digest in settings.items()}
        whole = all(file_sha256(path) == digest for path, digest in hashes.items())
        return {part: facts["weights"] for part, facts in parts.items()} if whole else None
    except (ArzooError, OSError, KeyError):
        return None


def _value(tree: Any, name: str) -> str:
    """The value of a dotted name, hashes cut short."""
    for key in name.split("."):
        tree = tree[key]
    return str(tree)[:_DIGITS] if name.endswith(("sha256", "weights")) else str(tree)
