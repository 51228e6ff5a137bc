"""How much memory new tensors may take: a network whose settings ask for far too much is noticed while it is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

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
        self._left -= _elements(func, args, kwargs)
        if self._left < 0:
            raise TooLarge
        return func(*args, **kwargs)


def _elements(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return the number of elements of a function's result, 0 for functions that are not counted."""
    if func in _FACTORIES:
        return int(func(*args, **{**kwargs, "device": "meta"}).numel())
    if func is torch.outer:
        return math.prod(vector.numel() for vector in (*args, *kwargs.values()) if torch.is_tensor(vector))
    # Not on the device "meta", where `arange` imports an algebra system, half as long as a network takes to load.
    if func is torch.arange:
        names = ("end",) if len(args) == 1 and "end" not in kwargs else ("start", "end", "step")
        bounds = {"start": 0, "step": 1, **dict(zip(names, args, strict=False)), **kwargs}
        return math.ceil((bounds["end"] - bounds["start"]) / bounds["step"])
    return 0
