"""LongCat-Next in small: one sequence of text, size, rows of codes and newlines; any size; bytes; generators."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.heads.depth import DepthConfig
from arzoo.models.longcat.network import LongCatConfig
from arzoo.models.text.encoders import open_text_encoder
from arzoo.models.text.ids import PADDING
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import newlines, raster

CONFIG = LongCatConfig(
    width=32, depth=2, heads=2, hidden=48, vocab=11, codebooks=3, text_length=6, rows=8, inputs=64
)
TEXTS = ["cat", "a dog"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def network(config=CONFIG):
    """A network with larger weights, so that mistakes show."""
    made = config.build().eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def condition(texts=TEXTS, drop=None):
    ids, mask = open_text_encoder("bytes")(texts, CONFIG.text_length)
    return Cond(len(texts), text=ids, text_mask=mask, drop=drop)


def codes(grid, batch=2):
    return Tokens.of(torch.randint(11, (batch, grid.size, 3)), layout=grid)


def test_texts_are_bytes_with_padding_before_them():
    encoder = open_text_encoder("bytes")
    ids, mask = encoder(["Äb", "long words"], 4)
    assert ids.tolist() == [[PADDING, 0xC3, 0x84, 0x62], list(b"long")]
    assert mask.tolist() == [[False, True, True, True], [True] * 4]
    (remark,) = encoder.remarks(["Äb", "long words"], 4)
    assert "'long words' has 10 tokens, but the model reads only 4" in remark


def test_a_newline_ends_every_row_but_the_last():
    plan = newlines(Grid(1, 3, 2))
    order = [plan.fed(step, step + 1).tolist()[0] for step in range(6)]
    assert order == [[0], [1, 6], [2], [3, 7], [4], [5]]
    assert plan.sources[:, 0].tolist() == [-1, 0, 6, 2, 7, 4]
    assert newlines(Grid(1, 1, 5)).extras == 0


@pytest.mark.parametrize("order", [newlines, raster])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 5), (1, 5, 1), (2, 2, 2)])
def test_parallel_equals_stepped_at_any_size(shape, order):
    backbone, grid, cond = network(), Grid(*shape), condition()
    plan, tokens = order(grid), codes(grid)
    with torch.no_grad():
        together = backbone.features(tokens, cond, plan).features
        state = backbone.start(cond, plan, 1)
        for step in range(len(plan)):
            one = backbone.step(state, tokens, step)
            torch.testing.assert_close(one.features, together[:, one.positions[0]], atol=1e-5, rtol=1e-4)


def test_a_position_sees_text_size_and_what_comes_before_it():
    backbone, grid = network(), Grid(1, 3, 2)
    plan, tokens, cond = newlines(grid), codes(grid), condition()

    def features(tokens=tokens, cond=cond, plan=plan):
        with torch.no_grad():
            return backbone.features(tokens, cond, plan).features[:, :, 0]

    plain, changed = features(), Tokens(tokens.values.clone(), tokens.known, tokens.given, tokens.length)
    changed.values[:, 3, 1] = (changed.values[:, 3, 1] + 1) % 11
    differs = (features(changed) != plain).flatten(2).any(2).any(0)
    assert differs.tolist() == [False] * 4 + [True] * 2, (
        "a code shows in all that follows, through its newline"
    )
    assert not torch.equal(features(cond=condition(["cow", "a dog"]))[0], plain[0])
    assert torch.equal(features(cond=condition(["cow", "a dog"]))[1], plain[1])
    # What stands at padding is not seen.
    padded = condition()
    padded.text[0, :3] = 7
    torch.testing.assert_close(features(cond=padded), plain)
    same_codes = Tokens.of(tokens.values, layout=Grid(1, 2, 3))
    assert not torch.allclose(features(same_codes, plan=newlines(Grid(1, 2, 3)))[:, 0], plain[:, 0]), (
        "its size"
    )


def test_without_its_text_a_row_keeps_the_size():
    backbone, grid = network(), Grid(1, 2, 2)
    tokens, dropped = codes(grid), torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        same_length = condition(["cat", "cow"], dropped)
        one = backbone.features(tokens, same_length, newlines(grid)).features[:, 0]
        other = backbone.features(
            Tokens.of(tokens.values, layout=Grid(1, 1, 4)), same_length, newlines(Grid(1, 1, 4))
        ).features[:, 0]
    torch.testing.assert_close(one[0], one[1])
    assert not torch.allclose(one, other)


def test_what_it_refuses():
    backbone, grid = network(), Grid(1, 2, 2)
    tokens, plan = codes(grid), newlines(grid)
    for cond, message in (
        (Cond(2, label=torch.tensor([0, 1])), "reads texts: give prompts"),
        (
            Cond(2, text=torch.zeros(2, 5, dtype=torch.long), text_mask=torch.ones(2, 5)),
            "6 ids of type int64",
        ),
        (Cond(2, text=torch.full((2, 6), 257), text_mask=torch.ones(2, 6)), "ids of texts are 0 to 256"),
    ):
        with pytest.raises(ArzooError, match=message):
            backbone.features(tokens, cond, plan)
    with pytest.raises(ArzooError, match="at most 8 rows of tokens"):
        backbone.start(condition(), newlines(Grid(1, 9, 1)), 1)
    with pytest.raises(ArzooError, match="not built with describes=true"):
        backbone.start(condition(), raster(Ordered(4)), 1)
    with pytest.raises(ArzooError, match="are 74 inputs, the model takes 64"):
        backbone.start(condition(), newlines(Grid(1, 8, 7)), 1)
    for settings in ({"text_width": 384}, {"text_vocab": 100}):
        with pytest.raises(ArzooError, match="text encoder `bytes`"):
            CONFIG.replace(**settings)


def test_drawing_follows_seed_and_text_alone():
    backbone, grid = network(), Grid(1, 3, 2)
    head = DepthConfig(width=32, vocab=11, codebooks=3, heads=2).build().eval()
    model = SimpleNamespace(backbone=backbone, heads=[head])
    spec = TokenSpec(grid, vocab=11, codebooks=3)

    def drawn(texts, seeds):
        run = start(
            model,
            newlines(grid),
            condition(texts),
            Control(guidance=2.0),
            spec.empty(len(texts)),
            Draws(seeds),
        )
        for _ in generate(model, run):
            pass
        return run.tokens.values

    both = drawn(TEXTS, [3, 4])
    assert torch.equal(drawn(TEXTS[1:], [4]), both[1:])
    assert not torch.equal(drawn(["a cow"], [4]), both[1:])


def test_the_loss_falls():
    backbone, grid = CONFIG.replace(dropout=0.0, token_dropout=0.0).build(), Grid(1, 3, 2)
    head = DepthConfig(width=32, vocab=11, codebooks=3, heads=2).build()
    tokens, cond, plan = codes(grid), condition(), newlines(grid)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer, losses = torch.optim.AdamW(parameters, 3e-3), []
    for _ in range(60):
        loss = head.loss(backbone.features(tokens, cond, plan), tokens.values).mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
