"""arzoo: a model zoo for autoregressive visual generation.

    import arzoo

    arzoo.list_models("nar*")                       # names of checkpoints and backbones
    model = arzoo.load("nar_emoji64")               # a shipped name, a folder or hf-hub:org/name
    images = model.generate([3, 7], seed=0)         # (2, 64, 64, 3) uint8
    network = arzoo.create("nar_b", classes=10)     # a fresh backbone or tokenizer

Importing this module does not import torch; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from arzoo.generator import Generator
    from arzoo.tokenizers.base import Tokenizer

__version__ = "0.1.0"
__all__ = ["create", "list_models", "load"]


def load(name: str | Path) -> Generator | Tokenizer:
    """A trained generator or tokenizer.

    Args:
        name: A shipped name, the folder of a checkpoint or training run, or `hf-hub:org/name`.

    Raises:
        ArzooError: It does not exist, is damaged, or belongs to another tokenizer.
    """
    from arzoo import hub

    return hub.load(name)


def create(name: str, **changes: Any) -> nn.Module:
    """A backbone or tokenizer with fresh weights.

    Args:
        name: A registered name, see `list_models`.
        **changes: Settings that differ from the registered ones.

    Raises:
        UnknownName: Nothing has this name.
        ArzooError: A change names no setting or has the wrong type.
    """
    from arzoo import registry
    from arzoo.errors import UnknownName

    for kind in ("backbone", "tokenizer"):
        if name in registry.names(kind):
            return registry.create(kind, name, **changes)
    raise UnknownName("model", name, list_models())


def list_models(pattern: str = "*") -> list[str]:
    """Names of shipped checkpoints, backbones and tokenizers that match a shell pattern."""
    import fnmatch

    from arzoo import registry
    from arzoo.locate import bundled

    found = {name for name in bundled() if fnmatch.fnmatchcase(name, pattern)}
    for kind in ("backbone", "tokenizer"):
        found.update(registry.names(kind, pattern))
    return sorted(found, key=registry.natural_key)
