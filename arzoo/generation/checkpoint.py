"""Reading and writing a generator as a checkpoint folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.checkpoints.index import control_of, plan_of
from arzoo.checkpoints.lookup import tokenizer_of
from arzoo.core.contracts import Backbone, Tokenizer
from arzoo.generation.gaps import Untrained
from arzoo.generation.prompts import PromptReader
from arzoo.samplers.schedules import control_to_data

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def read(name: str | Path, tokenizer: str | Path | None, text: str | Path | None) -> dict[str, Any]:
    """Read a checkpoint; arguments and errors as those of `Generator.load`.

    Returns:
        The arguments of `Generator`.
    """
    checkpoint = open_checkpoint(name, "generator")
    tokenizer_checkpoint = tokenizer_of(checkpoint, tokenizer)
    index, parts = checkpoint.index, sorted(checkpoint.parts)
    plan_name, plan_options = plan_of(index, checkpoint.folder)
    frozen = tokenizer_checkpoint.load("tokenizer").requires_grad_(False)
    assert isinstance(frozen, Tokenizer)
    backbone = checkpoint.load("backbone")
    assert isinstance(backbone, Backbone)
    return {
        "tokenizer": frozen,
        "backbone": backbone,
        "heads": [checkpoint.load(part) for part in parts if part.startswith("head")],
        "plan_name": plan_name,
        "plan_options": plan_options,
        "classes": index.get("classes", ()),
        "control": control_of(index, checkpoint.folder),
        "tokenizer_name": index.get("tokenizer", {}).get("name") or str(tokenizer),
        "tokenizer_hash": tokenizer_checkpoint.parts["tokenizer"]["weights"],
        "text": PromptReader.of(backbone, index.get("text"), str(text or "")),
        "untrained": Untrained.of(index),
        "ends": bool(index.get("spec", {}).get("ends", False)),
        **({"fps": index["fps"]} if "fps" in index else {}),
    }


def write(
    model: Generator,
    folder: str | Path,
    metrics: dict[str, Any] | None,
    record: dict[str, Any] | None,
    add: Callable[[Path], None] | None,
) -> None:
    """Write a checkpoint; arguments as those of `Generator.save`."""
    settings = model.tokenizer.config.to_dict()
    text: dict[str, Any] = (
        {"text": {"name": model.text.name, "sha256": model.text.sha256}} if model.text else {}
    )
    clips: dict[str, Any] = {"fps": float(model.fps)} if model.tokenizer.frames > 1 else {}
    save_parts(
        folder,
        "generator",
        model.parts,
        bits=16,
        overwrite=True,
        metrics=metrics,
        record=record,
        add=add,
        spec=model.spec.to_dict(),
        plan={"name": model.plan_name, "options": model.plan_options},
        controls=control_to_data(model.control),
        classes=list(model.classes),
        tokenizer={"name": model.tokenizer_name, "sha256": model.tokenizer_hash, "settings": settings},
        **text,
        **clips,
        **model.untrained.to_dict(),
    )
