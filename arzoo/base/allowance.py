"""How much memory new tensors may take: a network whose settings ask for far too much is noticed while it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Not `arange`: with the device "meta" it imports an algebra system, half as long as a network takes to load.
_FACTORIES = frozenset({torch.empty, torch.ones, torch.rand, torch.randn, torch.zeros})
_SLACK = 2**24
"""Elements beside the weights, for tables and the like."""


class TooLarge(Exception):
    """A new tensor would have exceeded the allowance."""


class Allowance(TorchFunctionMode):
    """Context in which new tensors together may have so many elements, and some more for small tables.

    Args:
        elements: Number of elements.

    Raises:
        TooLarge: A tensor would exceed it; nothing was allocated for that one.
    """

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._left = elements + _SLACK

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self._left -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if self._left < 0:
                raise TooLarge
        return func(*args, **kwargs)
