"""Values that are no numbers (nan, infinity): refused or named where they enter, are stored or scored."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arzoo.base.errors import ArzooError

if TYPE_CHECKING:
    from torch import Tensor


class NotANumber(UserWarning):
    """Pictures were made of values that are no numbers."""


def refuse_not_finite(tensors: Mapping[str, Tensor], what: str, remedy: str) -> None:
    """Refuse tensors in which a value is no number; those without memory of their own are left out.

    Args:
        tensors: By name.
        what: What they are, such as "the weights in x.pt".
        remedy: What to do.

    Raises:
        ArzooError: With the names of the tensors.
    """
    real = {name: value for name, value in tensors.items() if value.is_floating_point() and not value.is_meta}
    names = [name for name, value in real.items() if not bool(value.float().isfinite().all())]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown = ", ".join(names[:_SHOWN]) + more
        raise ArzooError(f"{what} hold values that are no numbers (nan or infinity), in {shown}. {remedy}")


_SHOWN = 8


def warn_of_not_finite(pictures: Tensor) -> None:
    """Say how many of some pictures hold values that are no numbers: they become black there."""
    count = int((~pictures.flatten(1).isfinite().all(1)).sum())
    if count:
        warnings.warn(
            f"{count} of {len(pictures)} pictures hold values that are no numbers (nan or infinity): a network has "
            "diverged, or the precision is too low for it",
            NotANumber,
            stacklevel=3,
        )


@contextmanager
def refuse_unscorable() -> Iterator[None]:
    """Refuse such pictures where they are to be scored.

    Raises:
        ArzooError: There is one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotANumber)
        try:
            yield
        except NotANumber as error:
            raise ArzooError(f"{error}; a score of it would say nothing") from error
