"""Rates of tokens: prefixes and target qualities, at which tokenizers of ordered and adaptive tokens are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.registry import called
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.core.contracts import Tokenizer
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.lengths import encoded, target_errors

HALVINGS = 6
"""Points of a curve over target errors."""


@dataclass(frozen=True)
class Rate:
    """How many tokens a tokenizer may spend on a picture.

    Attributes:
        tokens: At most the first this many; None for all.
        quality: Acceptable mean absolute error of pixels in [0, 1], which the number of tokens follows; None for the
            tokenizer's own.
    """

    tokens: int | None = None
    quality: float | None = None

    def encode(self, tokenizer: Tokenizer, clips: Tensor) -> Tokens:
        """Encode clips (B, 3, T, H, W) in [-1, 1]."""
        tokens = encoded(tokenizer, clips, self.quality)
        return tokens if self.tokens is None else tokens.first(self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """What was asked for, as plain data; empty for a tokenizer's own number of tokens."""
        asked = {"prefix": self.tokens, "quality": self.quality}
        return {name: value for name, value in asked.items() if value is not None}


OWN = Rate()
"""As many tokens as a tokenizer itself gives a picture."""


def rates(tokenizer: Tokenizer, prefixes: Sequence[int] = (), qualities: Sequence[float] = ()) -> list[Rate]:
    """Check requested prefixes and qualities, and return them as rates in their order, prefixes first.

    Args:
        tokenizer: The tokenizer.
        prefixes: Numbers of tokens.
        qualities: Mean absolute errors, see `Rate`.

    Raises:
        UsageError: The tokenizer has no prefixes or takes no quality, or a number is out of range.
    """
    size, name = tokenizer.spec.layout.size, called(tokenizer)
    if prefixes and not tokenizer.spec.prefix_ok:
        raise UsageError(
            f"a picture needs all {size} tokens of this tokenizer ({name}), so it has no shorter prefixes "
            f"({_list(prefixes)}). {shipped('Prefixes', lambda other: other.spec.prefix_ok)}"
        )
    for count in prefixes:
        if not 1 <= count <= size:
            raise UsageError(
                f"a prefix has 1 to {size} tokens here, got {count}; the nearest is {min(max(count, 1), size)}"
            )
    if qualities and tokenizer.qualities is None:
        raise UsageError(
            f"this tokenizer ({name}) gives every picture {size} tokens whatever its quality, so it takes no target "
            f"({_list(qualities)}). {shipped('Targets', lambda other: other.qualities is not None)}"
        )
    try:
        for quality in qualities:
            target_errors(quality, tokenizer.qualities, 1)
    except ArzooError as error:
        raise UsageError(str(error)) from error
    return [Rate(tokens=count) for count in prefixes] + [Rate(quality=quality) for quality in qualities]


def usual_rates(tokenizer: Tokenizer) -> list[Rate]:
    """Return rates for a curve, from few tokens to many; none for tokenizers that give every picture all tokens.

    They are powers of two up to all tokens, and for tokenizers that decide themselves how many tokens a picture gets,
    target errors that halve from the largest one.
    """
    spec = tokenizer.spec
    if spec.subset_ok and tokenizer.qualities is not None:
        lowest, highest = tokenizer.qualities
        errors = [float(f"{highest / 2**i:.2g}") for i in range(HALVINGS)]
        return [Rate(quality=error) for error in errors if error >= lowest]
    if not spec.prefix_ok:
        return []
    powers = (1 << i for i in range(spec.layout.size.bit_length()))
    return [Rate(tokens=count) for count in sorted({*powers, spec.layout.size})]


def shipped(what: str, offers: Callable[[Tokenizer], bool]) -> str:
    """Return a sentence that lists the shipped tokenizers which offer something; they are built without weights."""
    names = []
    for name in bundled("tokenizer"):
        with torch.device("meta"):
            tokenizer = open_checkpoint(name).config("tokenizer").build()
        if offers(tokenizer):
            names.append(name)
    if not names:
        return f"{what}: ordered tokenizers have them (docs/tokenizers.md), of which none is shipped."
    return f"{what} of the shipped tokenizers: {', '.join(names)}."


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
