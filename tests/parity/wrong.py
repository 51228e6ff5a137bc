"""Shows that a comparison notices wrong weights: without that, agreement with a recording would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from arzoo.models.common.convert import Join

LEAST = 0.02
"""Size of a weight that is zero."""


def shares(parts: Mapping[str, nn.Module], table: Mapping[str, Join]) -> Iterator[tuple[str, Tensor]]:
    """Published names of all weights, with the places where ours hold them."""
    for ours, join in table.items():
        part, name = ours.split(".", 1)
        weight = parts[part].state_dict()[name]
        yield from zip(join.names, weight.chunk(len(join.names), join.dim), strict=True)


def check_noticed(
    weights: Iterable[tuple[str, Tensor]], compare: Callable[[], None], change: float = 0.01
) -> None:
    """Show that a comparison fails when any one of the weights is a little off, and holds when none is.

    Args:
        weights: Names and weights; changed in place, one at a time.
        compare: Raises AssertionError where something differs.
        change: Size of the change relative to the weight.
    """
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        compare()
        for name, weight in weights:
            right = weight.clone()
            size = max(float(weight.square().mean().sqrt()), LEAST)
            weight.add_(change * size * torch.randn(weight.shape, generator=random))
            noticed = fails(compare)
            weight.copy_(right)
            assert noticed, f"a change of {name} was not noticed"
        compare()


def fails(check: Callable[[], None]) -> bool:
    """Whether a comparison fails."""
    try:
        check()
    except AssertionError:
        return True
    return False
