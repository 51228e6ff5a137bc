"""Lineage of a run: its settings, the origin of its weights and its checkpoint, compared when the run is continued."""

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

ORIGINS = {
    "data": "data", "codes": "data", "tokenizer": "tokenizer", "base": "base", "init": "init",
    "value.generator": "generator",
}  # fmt: skip
"""Settings of a recipe that are locations, and the entries of the lineage with their hashes."""
_DIGITS = 12
"""Number of digits of a hash in messages."""


def refuse_other(out: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a saved state with other settings or another lineage.

    Data, codes, tokenizer and initial weights are compared by their hashes, not by their locations.

    Args:
        out: Folder of the run.
        saved: `recipe` and `lineage` of the state; states of older versions have no lineage, which is then not
            compared.
        now: `recipe` and `lineage` of the run.

    Raises:
        ArzooError: Settings that change the trained weights differ, or data, tokenizer or initial weights do.
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
            f"{out} holds a run on data or weights that have changed since ({'; '.join(pairs)}): pictures, captions, "
            "names of classes or a checkpoint are different now under the same names. Bring the former back to "
            f"continue, or {begin}"
        )


def _hashes(lineage: Mapping[str, Any], origin: str) -> bool:
    """Return whether the lineage has a hash of an origin."""
    return any(key in lineage.get(origin, {}) for key in ("sha256", "weights"))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of settings with different values; a setting that `old` lacks counts as equal."""
    out = []
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            out += differences(old[key], value, f"{prefix}{key}.")
        elif key in old and old[key] != value:
            out.append(prefix + key)
    return out


def weights_of(folder: Path) -> dict[str, str] | None:
    """Return the hashes of the weights of every part of a checkpoint; None if it is missing or damaged."""
    try:
        parts = read_index(folder)["parts"]
        hashes = {folder / part / WEIGHTS: facts["sha256"] for part, facts in parts.items()}
        settings = {part: facts["config"] for part, facts in parts.items() if "config" in facts}
        hashes |= {folder / part / "config.json": digest for part, digest in settings.items()}
        intact = all(file_sha256(path) == digest for path, digest in hashes.items())
        return {part: facts["weights"] for part, facts in parts.items()} if intact else None
    except (ArzooError, OSError, KeyError):
        return None


def _value(tree: Any, name: str) -> str:
    """Value of a dotted name; hashes are shortened."""
    for key in name.split("."):
        tree = tree[key]
    return str(tree)[:_DIGITS] if name.endswith(("sha256", "weights")) else str(tree)
