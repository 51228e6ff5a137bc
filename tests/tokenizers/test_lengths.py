"""The shortest prefix for a quality: what is tried, what is taken, what is refused."""

from __future__ import annotations

import pytest
import torch
from ordered import FLEXTOK, TITOK, TOKENIZERS, build, pictures

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.lengths import encoded, lengths_of, mean_errors, shortest_prefix
from arzoo.tokenizers.kl.network import KLTokenizerConfig


def test_lengths():
    assert lengths_of(32) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert lengths_of(1) == [1]
    assert lengths_of(6) == [1, 2, 3, 4, 6]
    assert lengths_of(7) == [1, 2, 3, 4, 6, 7]


def test_the_first_length_that_reaches_the_target_is_taken_and_passes_are_counted():
    """A decoder whose picture is off by a number of its own at every length, not falling throughout."""
    x = torch.zeros(3, 3, 1, 2, 2)
    errors = {1: 0.5, 2: 0.2, 3: 0.3, 4: 0.15, 6: 0.1}
    rows = []

    def decode(tokens: Tokens) -> torch.Tensor:
        rows.append(len(tokens.values))
        error = torch.tensor([errors[n] for n in tokens.length.tolist()])
        return (2 * error).view(-1, 1, 1, 1, 1).expand(len(error), 3, 1, 2, 2)

    tokens = Tokens.of(torch.zeros(3, 6, dtype=torch.long), layout=Ordered(6))
    search = shortest_prefix(decode, tokens, x, torch.tensor([0.25, 0.15, 0.01]))
    assert search.tokens.length.tolist() == [2, 4, 6]
    assert search.decodings.tolist() == [2, 4, 5]
    assert rows == [3, 3, 2, 2, 1], "pictures that are good enough are not decoded again"
    torch.testing.assert_close(search.errors, torch.tensor([0.2, 0.15, 0.1]))
    assert tokens.length.tolist() == [6, 6, 6], "the argument is not changed"


@pytest.mark.parametrize("name", ["flextok", "flextok over latents", "titok", "titok vectors"])
@torch.no_grad()
def test_encoding_to_a_quality(name):
    model, x = build(TOKENIZERS[name]), pictures(4)
    everything = model.encode(x)
    errors = torch.stack([mean_errors(model.decode(everything.first(n)), x) for n in lengths_of(8)[:3]])
    quality = float(errors.flatten().median())
    tokens = model.encode(x, quality=quality)
    assert torch.equal(tokens.values, everything.values)
    decoded = model.decode(tokens)
    size = everything.values.shape[1]
    assert torch.equal(decoded, model.decode(tokens)), "the same noise every time"
    for row, length in enumerate(tokens.length.tolist()):
        reached = float(mean_errors(decoded, x)[row]) <= quality + 1e-5
        assert reached or length == size
        shorter = [n for n in lengths_of(size) if n < length]
        short = [float(mean_errors(model.decode(everything.first(n)), x)[row]) for n in shorter]
        assert all(error > quality - 1e-5 for error in short)
    assert model.encode(x, quality=1.0).length.tolist() == [1] * 4
    assert model.encode(x, quality=0.0).length.tolist() == [size] * 4
    each = model.encode(x, quality=torch.tensor([1.0, 0.0, quality, 1.0]))
    assert each.length.tolist() == [1, size, int(tokens.length[2]), 1]
    assert torch.equal(encoded(model, x, quality).length, tokens.length)


@pytest.mark.parametrize(("quality", "nearest"), [(-0.1, "0"), (1.5, "1"), (float("nan"), "1")])
def test_qualities_out_of_range(quality, nearest):
    for config in (FLEXTOK, TITOK):
        model = build(config)
        assert model.qualities == (0.0, 1.0)
        with pytest.raises(ArzooError, match=rf"from 0 to 1, got {quality:g}; the nearest is {nearest}$"):
            model.encode(pictures(1), quality=quality)


def test_tokenizers_that_need_all_tokens_take_no_quality():
    fixed = build(TITOK.replace(any_prefix=False))
    grid = KLTokenizerConfig(image_size=16, widths=(32, 32), encoder_blocks=1, decoder_blocks=1).build()
    for model in (fixed, grid):
        assert model.qualities is None
        with pytest.raises(ArzooError, match="needs all tokens of every picture"):
            encoded(model, pictures(1), 0.1)
    with pytest.raises(ArzooError, match="needs all tokens of every picture"):
        fixed.encode(pictures(1), quality=0.1)
    assert fixed.encode(pictures(1), draws=Draws([0])).length.tolist() == [6]
