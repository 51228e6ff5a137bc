"""The repeated blocks of a network, the units of activation checkpointing and of sharding."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Repeats(Protocol):
    """A module that names its repeated blocks."""

    def repeated_blocks(self) -> list[nn.Module]:
        """Blocks that hold most weights and activations and are called one after another.

        They are the units of activation checkpointing and of sharding, so in training their weights may only be used by
        calling the block. (The method is not called `blocks` because that is the name of a list in many networks, and
        part of the names of their weights.)
        """
        ...


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """Repeated blocks of a module and of all its submodules."""
    return [
        block for part in module.modules() if isinstance(part, Repeats) for block in part.repeated_blocks()
    ]
