"""Generators whose pictures have different numbers of tokens: symbols beyond the codes of the tokenizer.

`end` says that no token follows. `absent` says that a position has none although later ones do; only tokenizers that
decode any subset of their tokens need it. A canvas of such a generator has a code or a symbol at every position, so
backbones, heads and plans treat it as any other; what lies after the first `end` means nothing.

Shapes: B samples, N positions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.tokens import Tokens, TokenSpec


def with_ends(spec: TokenSpec) -> TokenSpec:
    """Return the contract of a generator's canvas over the tokens of a tokenizer, with the symbols added.

    Raises:
        ArzooError: A picture needs all tokens, or they are not one code a position.
    """
    if not (spec.prefix_ok or spec.subset_ok):
        raise ArzooError(
            f"pictures need all {spec.layout.size} tokens of this tokenizer, so a generator cannot end them earlier; "
            "use a tokenizer of ordered tokens (FlexTok, KARL, One-D-Piece)"
        )
    if not spec.discrete or spec.codebooks != 1:
        kind = f"{spec.codebooks} codes" if spec.discrete else "a vector"
        raise ArzooError(
            f"the number of tokens follows the picture, and a position has {kind}: a generator says where a picture "
            "ends with a code of its own, so it needs a tokenizer with one code a position (KARL or TiTok with vocab "
            "above 0)"
        )
    return replace(spec, vocab=spec.vocab + _symbols(spec), ends=True)


def _symbols(spec: TokenSpec) -> int:
    return 2 if spec.subset_ok else 1


def codes_of(spec: TokenSpec) -> int:
    """Number of codes that are tokens; without symbols, the vocabulary."""
    return spec.vocab - _symbols(spec) if spec.ends else spec.vocab


def end_of(spec: TokenSpec) -> int:
    """The symbol after which no token follows, the last code."""
    return spec.vocab - 1


def to_canvas(tokens: Tokens, spec: TokenSpec) -> Tokens:
    """Put the tokens of a tokenizer on the canvas of a generator, where every position is known.

    Raises:
        ArzooError: A token is missing before the last one, and the tokenizer decodes prefixes only.
    """
    present = tokens.present
    index = torch.arange(present.shape[1], device=present.device)
    before_end = index < ((index + 1) * present).amax(1, keepdim=True)
    if not spec.subset_ok and not bool((present == before_end).all()):
        row, position = (present != before_end).nonzero()[0].tolist()
        raise ArzooError(
            f"sample {row} has no token {position} although later ones follow, and its tokenizer decodes only the "
            "first tokens of a picture"
        )
    values = torch.where(present, tokens.values, codes_of(spec))  # the first symbol: `absent` if there is one
    return Tokens.of(torch.where(before_end, values, end_of(spec)), layout=tokens.layout)


def from_canvas(tokens: Tokens, spec: TokenSpec) -> Tokens:
    """Return the tokens before the first `end`, for the tokenizer; what lies after it has no effect.

    Where a tokenizer decodes prefixes only, a picture has at least one token: the first code, if it ends before.
    """
    count = tokens.values.shape[1]
    ended = ((tokens.values == end_of(spec)) & tokens.known).int().cumsum(1) > 0
    length = torch.minimum(tokens.length, count - ended.sum(1))
    known = tokens.known & (tokens.values < codes_of(spec))
    tokens = replace(tokens, known=known, given=tokens.given & known, length=length)
    tokens.values = torch.where(tokens.present, tokens.values, 0)
    if not spec.subset_ok:
        tokens.length, known[:, 0] = length.clamp(min=1), known[:, 0] | (length < 1)
    return tokens


def counted(values: Tensor, spec: TokenSpec) -> Tensor:
    """(B, N) bool, what a generator has to predict: everything up to and with the first `end`."""
    ended = (values == end_of(spec)).int()
    return ended.cumsum(1) - ended == 0


def first_known(tokens: Tokens, most: int | None = None) -> Tokens:
    """Return a canvas that is filled from the first position on without what is not known yet, as padding.

    Args:
        tokens: The canvas; one that is filled in another order is returned as it is.
        most: Largest number of positions to keep.
    """
    count = tokens.known.sum(1)
    index = torch.arange(tokens.known.shape[1], device=count.device)
    if not bool((tokens.known == (index < count[:, None])).all()):
        return tokens
    count = count.clamp(max=len(index) if most is None else most)
    return replace(tokens, length=torch.minimum(tokens.length, count))
