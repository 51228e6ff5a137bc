"""Checks for values that are not finite (nan, infinity) in weights, tokens and pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arzoo.base.errors import ArzooError, some

if TYPE_CHECKING:
    from torch import Tensor


class NotANumber(UserWarning):
    """Pictures were made from values that are not finite."""


def refuse_not_finite(tensors: Mapping[str, Tensor], what: str, remedy: str) -> None:
    """Refuse tensors with values that are not finite; tensors on the meta device are skipped.

    Args:
        tensors: Tensors by name.
        what: What they are in the plural, such as "the weights in x.pt".
        remedy: What to do.

    Raises:
        ArzooError: A value is not finite; the message names the tensors.
    """
    real = {name: value for name, value in tensors.items() if value.is_floating_point() and not value.is_meta}
    names = [name for name, value in real.items() if not bool(value.float().isfinite().all())]
    if names:
        raise ArzooError(
            f"{what} hold values that are not finite (nan or infinity), in {some(names)}. {remedy}"
        )


def warn_of_not_finite(pictures: Tensor) -> None:
    """Warn of pictures (B, ...) with values that are not finite, which become black.

    Warns:
        NotANumber: There are such pictures; the message has their number.
    """
    count = int((~pictures.flatten(1).isfinite().all(1)).sum())
    if count:
        warnings.warn(
            f"{count} of {len(pictures)} pictures hold values that are not finite (nan or infinity): a network has "
            "diverged, or the precision is too low for it",
            NotANumber,
            stacklevel=3,
        )


@contextmanager
def refuse_unscorable() -> Iterator[None]:
    """Raise instead of warning about pictures with values that are not finite, before they are scored.

    Raises:
        ArzooError: There is such a picture.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotANumber)
        try:
            yield
        except NotANumber as error:
            raise ArzooError(f"{error}; a score of it would say nothing") from error
