"""Checkpoints converted from published weights, and checkpoints stored again in fewer bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arzoo.base import estimate
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.files import SEAL, file_sha256
from arzoo.base.parser import typed
from arzoo.base.paths import expanded
from arzoo.base.weights import Bits
from arzoo.checkpoints.folder import Checkpoint, load_parts, open_checkpoint, save_parts
from arzoo.checkpoints.names import BUNDLED
from arzoo.checkpoints.published import UNKNOWN, Published, Source
from arzoo.core.contracts import Backbone
from arzoo.models.common.convert import Conversion, convert_opened, open_file, settings_of
from arzoo.models.common.weight_file import Weights
from arzoo.samplers.schedules import control_to_data

_OWN = {"format", "kind", "arzoo", "commit", "torch", "parts", "training", SEAL}
"""Entries of an index that describe its own files."""


class Recognised(NamedTuple):
    """A converted file and what it is.

    Attributes:
        conversion: The converted file.
        entry: The published model that it is by its name and size, None if it has another name, or one that several
            models share.
        alike: All published models of its layout and size.
    """

    conversion: Conversion
    entry: Published | None
    alike: Sequence[Published]


def recognised(
    source: Source, layout: str | None, weights: Weights | None, settings: Mapping[str, str]
) -> Recognised:
    """Convert a published file in memory, with the settings of the published model that it is.

    Args:
        source: The file.
        layout: Its layout, None to recognize it by the names of tensors.
        weights: Which weights to take.
        settings: Settings as typed, which override those of the published model.

    Raises:
        UsageError: A setting is unknown, or its text is no value of its type.
        ArzooError: It cannot be converted, or is not the published model that was asked for.
    """
    file, layout = open_file(source.path, layout, weights)
    hints = settings_of(layout)
    try:
        given = {name: typed(text, hints.get(name, str), name) for name, text in settings.items()}
    except ArzooError as error:
        raise UsageError(str(error)) from error
    guess = next(iter(source.guesses(layout)), None)
    guessed = {**(guess.settings if guess else {}), **given}
    conversion = convert_opened(file, layout, **guessed)
    entry, chosen, alike = source.choose(layout, estimate.count(*conversion.parts.values()))
    if {**chosen, **given} != guessed:  # the file is called like a model of another size
        conversion = convert_opened(file, layout, **{**chosen, **given})
    return Recognised(conversion, entry, alike)


def save_conversion(
    conversion: Conversion,
    path: str | Path,
    target: str | Path,
    tokenizer: str | None = None,
    bits: Bits = 32,
    overwrite: bool = False,
    entry: Published | None = None,
) -> Checkpoint:
    """Write a converted model as a checkpoint.

    Args:
        conversion: The converted file.
        path: The file, for the record.
        target: Folder of the checkpoint.
        tokenizer: For generators: the checkpoint of the tokenizer whose tokens it models.
        bits: Bits per stored weight.
        overwrite: Replace an existing folder.
        entry: The published model that it is, for the record; its tokenizer is recorded where none is given.

    Raises:
        ArzooError: The folder exists, or the tokenizer does not.
    """
    path = Path(expanded(path))
    record = {"converted": path.name, "layout": conversion.source, "sha256": file_sha256(path)}
    if conversion.taken:
        record["weights"] = conversion.taken
    if entry is not None:
        record |= {"published": entry.title, "at": entry.link, "licence": entry.licence or UNKNOWN}
    kind = next((kind for kind in ("tokenizer", "segmenter") if kind in conversion.parts), "generator")
    facts: dict[str, Any] = {"plan": conversion.plan} if conversion.plan else {}
    if kind == "tokenizer":
        facts["spec"] = conversion.parts["tokenizer"].spec.to_dict()  # type: ignore[operator, union-attr]
    elif kind == "generator":
        backbone = conversion.parts["backbone"]
        count = backbone.config.classes if isinstance(backbone, Backbone) else 0
        facts |= {
            "classes": [str(label) for label in range(count)],
            "controls": control_to_data(conversion.control),
            "tokenizer": _tokenizer(tokenizer, entry),
            **({"text": {"name": conversion.text, "sha256": ""}} if conversion.text else {}),
        }
    return save_parts(target, kind, conversion.parts, bits=bits, overwrite=overwrite, record=record, **facts)


def _tokenizer(tokenizer: str | None, entry: Published | None) -> dict[str, str]:
    """Return name and weights of a tokenizer as generators record them; that of a published model may come later."""
    if tokenizer is not None:
        return _reference(tokenizer)
    name = entry.tokenizer if entry is not None else ""
    if not name:
        return {}
    try:
        return _reference(name)
    except ArzooError:
        return {"name": name, "sha256": ""}


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
