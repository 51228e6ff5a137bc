"""Starting from the weights of a checkpoint instead of fresh ones (fine-tuning)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from arzoo.checkpoint import open_checkpoint, refuse_other_tokenizer
from arzoo.errors import ArzooError
from arzoo.generator import Generator
from arzoo.tokenizers.base import Tokenizer


def start_tokenizer(tokenizer: Tokenizer, name: str) -> dict[str, Any]:
    """Copy the weights of a tokenizer checkpoint.

    Returns:
        The ancestor, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "tokenizer")
    _copy(checkpoint.load("tokenizer"), tokenizer, name, "")
    return {"name": name, "weights": {"tokenizer": checkpoint.parts["tokenizer"]["weights"]}}


def start_generator(model: Generator, name: str) -> dict[str, Any]:
    """Copy the weights of a generator checkpoint; with other classes, what embeds the class stays fresh.

    Returns:
        The ancestor, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, it was trained on another tokenizer, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "generator")
    wanted = checkpoint.index.get("tokenizer") or {}
    refuse_other_tokenizer(name, wanted, model.tokenizer_hash, model.tokenizer_name)
    own = {"backbone": model.backbone, **{"head" if not i else f"head{i}": h for i, h in enumerate(model.heads)}}
    if own.keys() != checkpoint.parts.keys():
        raise ArzooError(f"init={name!r} has the parts {', '.join(checkpoint.parts)}, this model {', '.join(own)}")
    fresh = "condition." if tuple(checkpoint.index.get("classes", ())) != model.classes else ""
    for part, module in own.items():
        _copy(checkpoint.load(part), module, name, fresh if part == "backbone" else "")
    return {"name": name, "weights": {part: facts["weights"] for part, facts in checkpoint.parts.items()}}


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module, name: str, fresh: str) -> None:
    """Copy all tensors but those whose names begin with `fresh`."""
    given, own = source.state_dict(), target.state_dict()
    wrong = [
        key
        for key in sorted(given.keys() | own.keys())
        if not (fresh and key.startswith(fresh))
        and (key not in given or key not in own or given[key].shape != own[key].shape)
    ]
    if wrong:
        shapes = [tuple(state[wrong[0]].shape) if wrong[0] in state else "absent" for state in (given, own)]
        raise ArzooError(
            f"init={name!r} does not fit this model: {len(wrong)} tensors differ, the first is {wrong[0]!r} (there "
            f"{shapes[0]}, here {shapes[1]}). Give the recipe the model and sizes of the checkpoint."
        )
    for key, value in own.items():
        if not (fresh and key.startswith(fresh)):
            value.copy_(given[key])
