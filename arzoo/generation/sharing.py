"""Loading of trained models, and the functions behind the methods of `arzoo.base.sharing`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError
from arzoo.base.weights import Bits, keeps
from arzoo.checkpoints.folder import Checkpoint, open_checkpoint, save_parts, weights_sha256
from arzoo.checkpoints.hub import push_folder
from arzoo.checkpoints.names import FOREIGN, HUB, check_repository, is_repository
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator
from arzoo.generation.images import decode_images as decode_images
from arzoo.generation.images import encode_images as encode_images

if TYPE_CHECKING:
    from arzoo.segmentation.segmenter import Segmenter

TOKENIZER = "tokenizer"
"""Subfolder of a generator's folder for its tokenizer."""


def load(name: str | Path) -> Generator | Tokenizer | Segmenter:
    """Load a trained model, see `arzoo.load`."""
    checkpoint = open_checkpoint(name)
    if checkpoint.kind == "value":
        raise ArzooError(
            f"{name} is a value model, which draws and encodes nothing; arzoo.generation.values.Value.load reads it"
        )
    if checkpoint.kind == "segmenter":
        from arzoo.segmentation.segmenter import Segmenter

        return Segmenter.load(name)
    loaded: Any = (
        Generator.load(checkpoint.folder) if checkpoint.kind == "generator" else checkpoint.load("tokenizer")
    )
    loaded.origin = checkpoint
    return loaded


def load_pretrained(name: str | Path) -> Generator | Tokenizer | Segmenter:
    """As `load`; a text that is no existing path but looks like `org/name` is a model on the hub."""
    if isinstance(name, str) and not os.path.exists(name) and Path(name).suffix not in FOREIGN:
        name = HUB + name if is_repository(name) else name
    return load(name)


def save_pretrained(
    model: Generator | Tokenizer, folder: Path, metrics: dict[str, Any] | None, record: dict[str, Any] | None
) -> None:
    """Write a self-contained folder, see `arzoo.base.sharing.Shared.save_pretrained`."""
    if folder.exists() and any(folder.iterdir()):
        open_checkpoint(folder)  # replace nothing but a checkpoint
    origin = model.origin if model.origin is not None and _same_weights(model, model.origin) else None
    if origin is not None:
        metrics = origin.metrics if metrics is None else metrics
        record = origin.index.get("training") if record is None else record
    if isinstance(model, Generator):
        tokenizer = model.tokenizer
        model.save(
            folder, metrics, record, lambda partial: _save_tokenizer(tokenizer, partial / TOKENIZER, {}, {})
        )
    else:
        _save_tokenizer(model, folder, metrics or {}, record or {})


def push_to_hub(
    model: Generator | Tokenizer,
    repository: str,
    private: bool,
    message: str,
    metrics: dict[str, Any] | None,
    record: dict[str, Any] | None,
) -> str:
    """Upload a model, see `arzoo.base.sharing.Shared.push_to_hub`."""
    check_repository(repository)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / repository.partition("@")[0].rpartition("/")[2]
        save_pretrained(model, folder, metrics, record)
        return push_folder(folder, repository, private=private, message=message)


def _save_tokenizer(model: Tokenizer, folder: Path, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    # Generators record the hash of these weights, so storing them must not change it.
    bits: Bits = 16 if keeps(model.state_dict(), 16) else 32
    save_parts(
        folder, "tokenizer", {"tokenizer": model}, bits=bits, overwrite=True, metrics=metrics,
        record=record, spec=model.spec.to_dict(), whole=True,
    )  # fmt: skip


def _same_weights(model: Generator | Tokenizer, origin: Checkpoint) -> bool:
    parts = model.parts if isinstance(model, Generator) else {"tokenizer": model}
    return parts.keys() == origin.parts.keys() and all(
        weights_sha256(part) == origin.parts[name]["weights"] for name, part in parts.items()
    )
