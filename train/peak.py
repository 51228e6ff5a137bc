"""How much memory a piece of work takes at its worst moment, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
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
        if any(map(is_traceable_wrapper_subclass, tree_iter((args, kwargs)))):
            return NotImplemented  # of a split tensor: the operation on this process's part comes next
        there = {storage.data_ptr() for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage.data_ptr() not in there:
                self._count(storage)
        return result

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


def _storages(tree: Any) -> Iterator[Any]:
    """Memory of the tensors among some values; of those that only stand for others there is none."""
    return (value.untyped_storage() for value in tree_iter(tree) if type(value) in (Tensor, nn.Parameter))
