"""Sizes of a network, read from the names and shapes of its published tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from arzoo.base.errors import ArzooError


class Sizes:
    """Reader of sizes.

    Args:
        state: Published tensors.
        kind: Name of the expected network, for messages.
    """

    def __init__(self, state: Mapping[str, Tensor], kind: str) -> None:
        self.state, self.kind = state, kind

    def shape(self, name: str, dims: int | None = None) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Args:
            name: Name of the tensor.
            dims: Number of axes that it must have; None means any.

        Raises:
            ArzooError: There is no such tensor, or it has another number of axes.
        """
        if name not in self.state:
            raise ArzooError(f"not {self.kind}: tensor {name!r} is missing")
        shape = tuple(self.state[name].shape)
        if dims is not None and len(shape) != dims:
            raise ArzooError(f"not {self.kind}: tensor {name!r} is {shape}")
        return shape

    def count(self, prefix: str) -> int:
        """Return the number of modules whose names are a prefix and a number.

        Raises:
            ArzooError: There is none, or a number is missing.
        """
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        numbers = {int(m[1]) for name in self.state if (m := pattern.match(name))}
        if numbers != set(range(len(numbers))) or not numbers:
            raise ArzooError(f"not {self.kind}: tensors {prefix}.* are missing or badly numbered")
        return len(numbers)
