"""Lengths of prefixes for a target error: encode once, and take the shortest prefix whose picture is good enough.

Tokenizers that decide the number of tokens themselves (KARL) need one pass of the encoder; those of which any prefix is
a picture (FlexTok, One-D-Piece) are searched here, with one pass of the decoder a length.

Shapes: B pictures, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.tokens import Tokens

ERRORS = (0.0, 1.0)
"""Target errors that a search accepts; with the smallest one it keeps all tokens of a picture."""


@dataclass(frozen=True)
class Search:
    """Result of a search over lengths, after one pass of the encoder.

    Attributes:
        tokens: Tokens whose `length` is the shortest that reaches the target, or all N.
        errors: (B,) mean absolute error in [0, 1] of the pictures of these tokens.
        decodings: (B,) passes of the decoder.
    """

    tokens: Tokens
    errors: Tensor
    decodings: Tensor


def lengths_of(count: int) -> list[int]:
    """Return the lengths that a search tries: powers of two, the middles between them, and all tokens.

    Example:
        >>> lengths_of(32)
        [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    """
    powers = [1 << i for i in range(count.bit_length())]
    return sorted({n for power in powers for n in (power, 3 * power // 2) if n < count} | {count})


def target_errors(quality: float | Tensor, qualities: tuple[float, float] | None, count: int) -> Tensor:
    """Return target errors (B,) float32 of pictures.

    Args:
        quality: Acceptable mean absolute error of pixels in [0, 1], one number or (B,).
        qualities: The tokenizer's, see `Tokenizer`.
        count: B.

    Raises:
        ArzooError: The tokenizer takes no target, or one is out of range.
    """
    if qualities is None:
        raise ArzooError(
            "a quality sets the number of tokens, and this tokenizer needs all tokens of every picture. Leave quality "
            "out, or use a tokenizer of ordered tokens (FlexTok, KARL, One-D-Piece)."
        )
    target, (lowest, highest) = torch.as_tensor(quality, dtype=torch.float32), qualities
    outside = target[~((target >= lowest) & (target <= highest + 1e-6))].flatten()
    if outside.numel():
        nearest = lowest if float(outside[0]) < lowest else highest
        raise ArzooError(
            f"quality must be a mean absolute error from {lowest:g} to {highest:g}, got {float(outside[0]):g}; the "
            f"nearest is {nearest:g}"
        )
    return target.expand(count)


def mean_errors(decoded: Tensor, clips: Tensor) -> Tensor:
    """Compute mean absolute errors (B,) of pixels in [0, 1] of clips (B, 3, T, H, W) in [-1, 1]."""
    return (decoded.clamp(-1, 1) - clips).abs().flatten(1).mean(1) / 2


@torch.no_grad()
def shortest_prefix(
    decode: Callable[[Tokens], Tensor], tokens: Tokens, clips: Tensor, quality: float | Tensor
) -> Search:
    """Search the shortest prefix whose picture is good enough, among `lengths_of`, from short to long.

    Pictures that have reached their target are not decoded again. The error need not fall with every token, so a longer
    prefix may miss a target that a shorter one has reached.

    Args:
        decode: The decoder; it must be deterministic.
        tokens: All N tokens of every picture.
        clips: (B, 3, T, H, W) in [-1, 1], what was encoded.
        quality: Acceptable mean absolute error of pixels in [0, 1], one number or (B,).
    """
    target = target_errors(quality, ERRORS, len(clips)).to(clips.device)
    shortest = tokens.select(torch.arange(len(clips), device=clips.device))
    errors, decodings = torch.full_like(target, torch.inf), torch.zeros_like(target, dtype=torch.long)
    for length in lengths_of(tokens.values.shape[1]):
        rows = (errors > target).nonzero()[:, 0]
        if not len(rows):
            break
        errors[rows] = mean_errors(decode(tokens.select(rows).first(length)), clips[rows])
        decodings[rows] += 1
        shortest.length[rows] = tokens.length[rows].clamp(max=length)
    return Search(shortest, errors, decodings)


def encoded(tokenizer: Tokenizer, clips: Tensor, quality: float | None) -> Tokens:
    """Encode clips (B, 3, T, H, W) to a quality, or as the tokenizer does without one.

    Raises:
        ArzooError: The tokenizer takes no quality, or it is out of range.
    """
    if quality is None:
        return tokenizer.encode(clips)
    target_errors(quality, tokenizer.qualities, len(clips))
    return tokenizer.encode(clips, quality=quality)  # type: ignore[call-arg]
