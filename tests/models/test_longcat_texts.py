"""LongCat-Next in small, read the other way round: a picture, and the text about it, with the same weights."""

from __future__ import annotations

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.describer import Describer
from arzoo.models.longcat.network import LongCatConfig
from arzoo.models.text.encoders import open_text_encoder
from arzoo.samplers.plans.shifted import newlines

CONFIG = LongCatConfig(
    width=32, depth=2, heads=2, hidden=48, vocab=11, codebooks=3, text_length=6, rows=8, inputs=64, describes=True
)  # fmt: skip
GRID = Grid(1, 3, 2)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def describer(config=CONFIG):
    """A network with larger weights, so that mistakes show."""
    network = config.build().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Describer(network)


def condition(grid=GRID, batch=2):
    return Cond(batch, prefix=torch.randint(11, (batch, grid.size, 3)), grid=grid)


def texts(parts, words=("cat", "a dog")):
    return parts.canvas(*open_text_encoder("bytes")(words, CONFIG.text_length))


def test_a_text_is_drawn_from_its_first_letter_to_its_end():
    parts = describer()
    canvas = texts(parts)
    assert canvas.tolist() == [[*b"cat", 256, 256, 256], [*b"a dog", 256]]
    assert parts.ids(Tokens.of(canvas)) == [[*b"cat"], [*b"a dog"]]
    assert parts.ids(Tokens.of(texts(parts, ["longer", "x"]))) == [[*b"longer"], [*b"x"]], (
        "or to its last place"
    )
    assert open_text_encoder("bytes").text([*b"cat", 0xC3]) == "cat�"


@pytest.mark.parametrize("grid", [GRID, Grid(1, 1, 5), Grid(2, 2, 2)])
def test_parallel_equals_stepped(grid):
    parts, cond = describer(), condition(grid)
    tokens = Tokens.of(texts(parts))
    with torch.no_grad():
        together = parts.backbone.features(tokens, cond, parts.plan).features
        state = parts.backbone.start(cond, parts.plan, 1)
        for step in range(len(parts.plan)):
            one = parts.backbone.step(state, tokens, step)
            torch.testing.assert_close(one.features, together[:, one.positions[0]], atol=1e-5, rtol=1e-4)


def test_a_letter_sees_the_picture_its_size_and_the_letters_before_it():
    parts, cond = describer(), condition()
    canvas = texts(parts)

    def features(values=canvas, cond=cond):
        with torch.no_grad():
            return parts.backbone.features(Tokens.of(values), cond, parts.plan).features[:, :, 0]

    plain, changed = features(), canvas.clone()
    changed[0, 2] = 7
    differs = (features(changed) != plain).any(2)
    assert differs.tolist() == [[False] * 3 + [True] * 3, [False] * 6], "of the same text, and what follows"
    for place in (0, 5):
        other = condition()
        other.prefix = cond.prefix.clone()
        other.prefix[0, place, 1] = (other.prefix[0, place, 1] + 1) % 11
        differs = (features(cond=other) != plain).any(2)
        assert differs.tolist() == [[True] * 6, [False] * 6], (
            f"code {place} is seen by every letter of its text"
        )
    turned = Cond(2, prefix=cond.prefix, grid=Grid(1, 2, 3))
    assert not torch.allclose(features(cond=turned)[:, 0], plain[:, 0]), "the size"


def test_drawing_follows_picture_and_seed_alone_and_ends():
    parts, cond = describer(), condition()
    control = Control(temperature=1.5)

    def drawn(rows, seeds):
        return parts.draw(cond.prefix[rows], GRID, seeds, control)

    both = drawn([0, 1], [3, 4])
    assert parts.ids(drawn([1], [4])) == parts.ids(both)[1:]
    assert parts.ids(drawn([1], [5])) != parts.ids(both)[1:]
    torch.nn.init.ones_(parts.head.norms[0].weight)
    torch.nn.init.zeros_(parts.head.output.weight)
    parts.head.output.weight.data[256] = 1e3 * torch.sign(parts.backbone.features(
        Tokens.of(texts(parts)), cond, parts.plan).features[0, 0, 0])  # fmt: skip
    first = parts.draw(cond.prefix[:1], GRID, [0], Control(greedy=True))
    assert (parts.ids(first), first.length.tolist(), int(first.known.sum())) == ([[]], [1], 1), (
        "one step, the end"
    )


def test_pictures_are_drawn_as_without_texts():
    """Both directions share their weights; texts add their head and the end of a picture."""
    plain = CONFIG.replace(describes=False).build()
    both = CONFIG.build()
    added = both.state_dict().keys() - plain.state_dict().keys()
    assert added == {"end.weight", "word_head.norms.0.weight", "word_head.output.weight"}
    assert all(both.state_dict()[name].shape == weight.shape for name, weight in plain.state_dict().items())
    assert (plain.words, both.words) == (None, both.word_head)


def test_what_it_refuses():
    parts, cond = describer(), condition()
    features, tokens = parts.backbone.features, Tokens.of(texts(parts))
    for wrong, message in (
        (Cond(2), r"codes \(B, N, 3\) int64 of a picture on a grid of N, got none"),
        (Cond(2, prefix=cond.prefix), "got .* of None"),
        (Cond(2, prefix=cond.prefix[..., 0], grid=GRID), r"got \(2, 6\) torch.int64 of Grid"),
        (Cond(2, prefix=cond.prefix, grid=Grid(1, 2, 2)), "got .* of Grid"),
        (Cond(2, prefix=cond.prefix + 5, grid=GRID), "codes of pictures are 0 to 10, got"),
        (condition(Grid(1, 7, 7)), "are 61 inputs, the model takes 60"),
    ):
        backbone = CONFIG.replace(inputs=60).build() if "60" in message else parts.backbone
        with pytest.raises(ArzooError, match=message):
            backbone.features(tokens, wrong, parts.plan)
    ids, mask = open_text_encoder("bytes")(["a", "b"], 6)
    both = Cond(2, text=ids, text_mask=mask, prefix=cond.prefix, grid=GRID)
    with pytest.raises(ArzooError, match="and no picture"):
        features(Tokens.of(cond.prefix, layout=GRID), both, newlines(GRID))
    without = CONFIG.replace(describes=False).build()
    with pytest.raises(ArzooError, match="not built with describes=true"):
        without.features(tokens, cond, parts.plan)
    with pytest.raises(
        ArzooError, match=r"backbone longcat .* draws pictures and was not trained to describe"
    ):
        Describer(without)
    with pytest.raises(ArzooError, match="describes=true needs text_vocab=257 or more, got 256"):
        CONFIG.replace(text_vocab=256)
