"""Initial weights from a checkpoint instead of fresh ones (fine-tuning)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, refuse_other_tokenizer
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator

SHOWN = 5
"""Number of modules that a message names."""


def start_tokenizer(tokenizer: Tokenizer, name: str) -> dict[str, Any]:
    """Copy the weights of a tokenizer checkpoint.

    Returns:
        Name and hashes of the checkpoint, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "tokenizer")
    _copy(checkpoint.load("tokenizer"), tokenizer, name, "")
    return {"name": name, "weights": {"tokenizer": checkpoint.parts["tokenizer"]["weights"]}}


def start_generator(model: Generator, name: str) -> dict[str, Any]:
    """Copy the weights of a generator checkpoint; if the classes differ, the embedding of classes stays fresh.

    Returns:
        Name and hashes of the checkpoint, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, it was trained on another tokenizer, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "generator")
    tokenizer = checkpoint.index.get("tokenizer") or {}
    refuse_other_tokenizer(
        name, tokenizer, model.tokenizer_hash, model.tokenizer_name, model.tokenizer.config
    )
    fresh = "condition." if tuple(checkpoint.index.get("classes", ())) != model.classes else ""
    for part, module in model.parts.items():
        if part in checkpoint.parts:
            _copy(checkpoint.load(part), module, name, fresh if part == "backbone" else "")
    return {"name": name, "weights": {part: facts["weights"] for part, facts in checkpoint.parts.items()}}


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module, name: str, fresh: str) -> None:
    """Copy tensors of equal name and shape, except names that begin with `fresh`; warn of those that stay fresh."""
    given, own = source.state_dict(), target.state_dict()
    fitting = {
        key
        for key, value in given.items()
        if key in own and own[key].shape == value.shape and not (fresh and key.startswith(fresh))
    }
    if not fitting:
        raise ArzooError(
            f"nothing of init={name!r} fits this model: no tensor of {type(source).__name__} has the name and shape of "
            f"one of {type(target).__name__}. Give the recipe the model and sizes of the checkpoint."
        )
    left = sorted(own.keys() - fitting)
    if left:
        modules = dict.fromkeys(key.rpartition(".")[0] for key in left)
        shown = ", ".join([*list(modules)[:SHOWN], *(["..."] if len(modules) > SHOWN else [])])
        warnings.warn(
            f"init={name!r} leaves {len(left)} of {len(own)} tensors fresh: those of {shown}", stacklevel=4
        )
    for key in fitting:
        own[key].copy_(given[key])
