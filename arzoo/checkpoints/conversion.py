"""Checkpoints converted from published weights, and checkpoints stored again in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, file_sha256
from arzoo.base.paths import expanded
from arzoo.base.weights import Bits
from arzoo.checkpoints.folder import Checkpoint, load_parts, open_checkpoint, save_parts
from arzoo.checkpoints.names import BUNDLED
from arzoo.core.contracts import Backbone
from arzoo.models.common.convert import Conversion
from arzoo.samplers.schedules import control_to_data

_OWN = {"format", "kind", "arzoo", "commit", "torch", "parts", "training", SEAL}
"""Entries of an index that describe its own files."""


def save_conversion(
    conversion: Conversion,
    path: str | Path,
    target: str | Path,
    tokenizer: str | None = None,
    bits: Bits = 32,
    overwrite: bool = False,
) -> Checkpoint:
    """Write a converted model as a checkpoint.

    Args:
        conversion: The converted file.
        path: The file, for the record.
        target: Folder of the checkpoint.
        tokenizer: For generators: the checkpoint of the tokenizer whose tokens it models.
        bits: Bits per stored weight.
        overwrite: Replace an existing folder.

    Raises:
        ArzooError: The folder exists, or the tokenizer does not.
    """
    path = Path(expanded(path))
    record = {"converted": path.name, "layout": conversion.source, "sha256": file_sha256(path)}
    if conversion.taken:
        record["weights"] = conversion.taken
    kind = "tokenizer" if "tokenizer" in conversion.parts else "generator"
    facts: dict[str, Any] = {"plan": conversion.plan} if conversion.plan else {}
    if kind == "tokenizer":
        facts["spec"] = conversion.parts["tokenizer"].spec.to_dict()  # type: ignore[operator, union-attr]
    else:
        backbone = conversion.parts["backbone"]
        count = backbone.config.classes if isinstance(backbone, Backbone) else 0
        facts |= {
            "classes": [str(label) for label in range(count)],
            "controls": control_to_data(conversion.control),
            "tokenizer": {} if tokenizer is None else _reference(tokenizer),
            **({"text": {"name": conversion.text, "sha256": ""}} if conversion.text else {}),
        }
    return save_parts(target, kind, conversion.parts, bits=bits, overwrite=overwrite, record=record, **facts)


def _reference(tokenizer: str) -> dict[str, str]:
    """Return name and weights of a tokenizer, as generators record them."""
    checkpoint = open_checkpoint(tokenizer, "tokenizer")
    name = tokenizer if checkpoint.folder.parent == BUNDLED else checkpoint.folder.resolve().name
    return {"name": name, "sha256": checkpoint.parts["tokenizer"]["weights"]}


def save_again(
    name: str | Path, target: str | Path, bits: Bits | None, overwrite: bool = False
) -> Checkpoint:
    """Store a checkpoint again in another number of bits.

    Raises:
        ArzooError: `bits` is None, the checkpoint is damaged, or the folder exists.
    """
    refuse_same_bits(name, bits)
    checkpoint, parts = load_parts(name)
    facts = {key: value for key, value in checkpoint.index.items() if key not in _OWN}
    names = {part: stored["name"] for part, stored in checkpoint.parts.items() if stored.get("name")}
    return save_parts(
        target, checkpoint.kind, parts, names=names, bits=bits or 32, overwrite=overwrite,
        metrics=checkpoint.metrics, record=checkpoint.index.get("training"), **facts,
    )  # fmt: skip


def refuse_same_bits(name: str | Path, bits: int | None) -> None:
    """Raise an ArzooError if a checkpoint would be stored again unchanged."""
    if bits is None:
        raise ArzooError(
            f"{name} is a checkpoint of arzoo already. Add --bits 16 to store it in half the size of "
            "float32, or --bits 8 in a quarter."
        )
