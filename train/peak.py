"""How much memory a piece of work takes at its worst moment, on any device."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Peak(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered, from their making to their end.

    What a kernel holds inside itself is not seen.

    Attributes:
        live: Bytes there now.
        most: Bytes at the worst moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._counted: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes; views and changes in place make nothing."""
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        if any(type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__ for value in given):
            return NotImplemented  # of a split tensor: the operation on this process's part comes next
        there = {value.untyped_storage().data_ptr() for value in given}
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in there:
                self._count(value.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage in self._counted:
            return
        self._counted.add(storage)
        size = storage.nbytes()
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.live -= size
