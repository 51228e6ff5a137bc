"""Peak memory of a piece of work, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_iter


class Peak(TorchDispatchMode):
    """A mode that counts the bytes of tensors from their creation to their end.

    Memory that kernels use internally is not counted.

    Attributes:
        live: Bytes of existing tensors.
        most: Largest value of `live` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._counted: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count new memory of its results; views and changes in place have none."""
        if any(map(is_traceable_wrapper_subclass, tree_iter((args, kwargs)))):
            return NotImplemented  # for a split tensor, the operation on this process's part is called next
        inputs = {storage.data_ptr() for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage.data_ptr() not in inputs:
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
    """Memory of the plain tensors among some values; wrapper subclasses have none of their own."""
    return (value.untyped_storage() for value in tree_iter(tree) if type(value) in (Tensor, nn.Parameter))
