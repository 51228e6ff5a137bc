"""Symbols for tokens that are missing: to a generator's canvas and back."""

from __future__ import annotations

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.ends import codes_of, counted, end_of, first_known, from_canvas, to_canvas, with_ends
from arzoo.core.layout import Grid, Ordered
from arzoo.core.tokens import Tokens, TokenSpec

PREFIX = TokenSpec(Ordered(5), vocab=7, prefix_ok=True)
SUBSET = TokenSpec(Ordered(5), vocab=7, prefix_ok=True, subset_ok=True)


def tokens(kept: list[list[int]]) -> Tokens:
    known = torch.tensor(kept, dtype=torch.bool)
    canvas = Tokens.of(torch.arange(5).expand(len(kept), 5) + 1, known)
    canvas.length = (torch.arange(1, 6) * known).amax(1)
    return canvas


def test_symbols_lie_beyond_the_codes():
    for spec, symbols in ((PREFIX, 1), (SUBSET, 2)):
        canvas = with_ends(spec)
        assert (canvas.vocab, codes_of(canvas), end_of(canvas)) == (7 + symbols, 7, 6 + symbols)
        assert TokenSpec.from_dict(canvas.to_dict()) == canvas
        assert codes_of(spec) == 7


def test_kept_tokens_come_back_and_what_lies_behind_the_end_has_no_effect():
    spec, before = with_ends(SUBSET), tokens([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    canvas = to_canvas(before, spec)
    assert canvas.values.tolist() == [[7, 2, 7, 4, 8], [8, 8, 8, 8, 8], [1, 2, 3, 4, 5]]
    assert bool(canvas.known.all())
    for junk in (0, 3, 7, 8):
        canvas.values[0, 4], canvas.values[1, 1:] = 8, junk
        after = from_canvas(canvas, spec)
        assert torch.equal(after.present, before.present)
        assert torch.equal(after.length, before.length)
        assert after.values.tolist() == [[0, 2, 0, 4, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert counted(canvas.values, spec).tolist() == [
        [True] * 5, [True, False, False, False, False], [True] * 5
    ]  # fmt: skip


def test_prefixes_have_no_gaps_and_at_least_one_token():
    spec = with_ends(PREFIX)
    canvas = to_canvas(tokens([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]), spec)
    assert canvas.values.tolist() == [[1, 2, 7, 7, 7], [1, 7, 7, 7, 7]]
    canvas.values[1, 0] = 7
    after = from_canvas(canvas, spec)
    assert after.length.tolist() == after.present.sum(1).tolist() == [2, 1]
    with pytest.raises(ArzooError, match="sample 1 has no token 0 although later ones follow"):
        to_canvas(tokens([[1, 1, 0, 0, 0], [0, 1, 0, 0, 0]]), spec)


def test_positions_that_are_not_drawn_yet_are_no_end():
    spec = with_ends(SUBSET)
    canvas = spec.empty(1)
    canvas.values[0, 3] = end_of(spec)
    canvas.known[0, :2] = True
    assert from_canvas(canvas, spec).length.tolist() == [5]
    assert from_canvas(canvas, spec).present.sum() == 2


def test_the_first_known_tokens():
    canvas = SUBSET.empty(2)
    canvas.known[:, :3] = True
    assert first_known(canvas).length.tolist() == [3, 3]
    assert first_known(canvas, 2).length.tolist() == [2, 2]
    canvas.known[0, 4] = True
    assert first_known(canvas).length.tolist() == [5, 5], "filled in another order"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TokenSpec(Grid(1, 2, 2), vocab=7), "need all 4 tokens"),
        (TokenSpec(Ordered(5), channels=3, prefix_ok=True), "a position has a vector"),
        (TokenSpec(Ordered(5), vocab=7, codebooks=2, prefix_ok=True), "a position has 2 codes"),
    ],
)
def test_tokens_that_cannot_end(spec, words):
    with pytest.raises(ArzooError, match=words):
        with_ends(spec)
