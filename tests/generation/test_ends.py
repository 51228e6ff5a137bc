"""Pictures of unlike numbers of tokens: drawn up to their end, the same in any batch, saved and loaded."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ordered import FLEXTOK, KARL, TITOK, TOKENIZERS, build

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import save_parts, weights_sha256
from arzoo.core.ends import end_of
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.tokenizers.vq.network import VQTokenizerConfig

CLASSES = ("a", "b", "c")
CONFIGS = {"flextok": FLEXTOK, "karl": KARL, "titok": TITOK}


def generator(tokenizer, plan: str = "ordered", **options) -> Generator:
    torch.manual_seed(1)
    model = Generator.create(
        "raster_tiny", tokenizer, plan, classes=CLASSES, tokenizer_name="tok",
        tokenizer_hash=weights_sha256(tokenizer), width=32, depth=1, heads=2, **options,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    return model


def eager(model: Generator, bonus: float = 2.0) -> Generator:
    """A generator that likes to end, but not always."""
    norm = model.heads[0].output.weight
    with torch.no_grad():
        norm[end_of(model.spec)] = norm[: end_of(model.spec)].mean(0) + 0.3 * bonus * torch.randn_like(
            norm[0]
        )
    return model


@pytest.fixture(scope="module")
def models():
    return {name: eager(generator(build(config), ends=True)) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_picture_does_not_depend_on_its_batch(models, name):
    model = models[name]
    classes, seeds = [i % 3 for i in range(8)], list(range(8))
    together = model.generate(classes, seeds=seeds)
    counts = together.token_counts
    assert counts.unique().numel() > 1, "of unlike lengths"
    for batch in (1, 3):
        again = model.generate(classes, seeds=seeds, batch=batch)
        assert torch.equal(again, together)
        assert torch.equal(again.token_counts, counts)
    order = [5, 2, 7]
    some = model.generate([classes[i] for i in order], seeds=[seeds[i] for i in order])
    assert torch.equal(some, together[order])


@pytest.mark.parametrize("name", CONFIGS)
def test_drawing_stops_where_all_have_ended(models, name):
    model = models[name]
    calls = []
    for seed in range(20):
        steps = list(model.stream(classes=[0], seeds=[seed]))
        values = steps[-1].run.tokens.values[0]
        ends = (values[: len(steps)] == end_of(model.spec)).nonzero()[:, 0].tolist()
        assert ends == ([len(steps) - 1] if len(steps) < model.spec.layout.size else ends)
        calls.append(len(steps))
        drawn = steps[-1].preview()
        assert torch.equal(drawn, model.generate([0], seeds=[seed]))
        least = 0 if model.spec.subset_ok else 1
        assert least <= int(drawn.token_counts) <= len(steps)
    assert min(calls) < model.spec.layout.size


def test_what_is_drawn_behind_the_end_has_no_effect(models):
    for model in models.values():
        *_, last = model.stream(classes=[0, 1, 2, 0], seeds=[1, 2, 3, 4])
        canvas = last.run.tokens
        drawn, changed = model.decode(canvas), canvas.copy()
        for row, values in enumerate(canvas.values):
            end = (values == end_of(model.spec)).nonzero()[:1, 0]
            if len(end):
                changed.values[row, int(end) + 1 :] = 1
        assert torch.equal(model.decode(changed), drawn)


def test_absent_tokens_are_not_decoded(models):
    model = models["karl"]
    canvas = model.spec.empty(1)
    canvas.known[:] = True
    canvas.values[0] = model.spec.vocab - 2
    canvas.values[0, 3], canvas.values[0, 6], canvas.values[0, 9:] = 5, 4, end_of(model.spec)
    tokens = Tokens.of(torch.zeros(1, 12, dtype=torch.long), torch.zeros(1, 12, dtype=torch.bool))
    tokens.values[0, 3], tokens.values[0, 6], tokens.known[0, [3, 6]] = 5, 4, True
    drawn = model.decode(canvas)
    assert drawn.token_counts.tolist() == [2]
    assert torch.equal(drawn, model.decode(tokens))
    assert torch.equal(
        model.decode(model.encode(drawn)), model.decode(model.tokenizer.encode(as_input(drawn)))
    )


def as_input(drawings):
    return drawings.permute(0, 4, 1, 2, 3).as_subclass(torch.Tensor).float() / 127.5 - 1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_number_of_tokens(models, name):
    model, fixed = models[name], generator(models[name].tokenizer, ends=False)
    size = model.spec.layout.size
    for each in (model, fixed):
        for count in (1, 3, size):
            drawn = each.generate([0, 1], seeds=[1, 2], tokens=count)
            assert int(drawn.token_counts.max()) <= count
            steps = list(each.stream(classes=[0, 1], seeds=[1, 2], tokens=count))
            assert len(steps) <= count
            assert torch.equal(steps[-1].preview(), drawn)
        for count in (0, size + 1, True, 2.0):
            with pytest.raises(ArzooError, match=f"whole number from 1 to {size}, got {count}"):
                each.generate([0], tokens=count)
    everything = fixed.stream(classes=[0, 1], seeds=[1, 2])
    for count, step in enumerate(everything, 1):
        shown = step.preview()
        assert shown.token_counts.tolist() == [count] * 2
        assert torch.equal(shown, fixed.generate([0, 1], seeds=[1, 2], tokens=count))


def test_groups_that_pass_the_number_of_tokens():
    model = generator(build(FLEXTOK), plan_options={"group": 4})
    drawn = model.generate([0], seed=3, tokens=3)
    assert drawn.token_counts.tolist() == [3]
    assert len(list(model.stream(classes=[0], seed=3, tokens=3))) == 1
    *_, last = model.stream(classes=[0], seed=3)
    canvas = last.run.tokens
    assert torch.equal(model.decode(dataclasses.replace(canvas, length=torch.tensor([3]))), drawn)


def test_numbers_of_tokens_where_pictures_need_all(models):
    sizes = {"image_size": 16, "widths": (8, 16), "encoder_blocks": 1, "decoder_blocks": 1, "unshuffle": 2}
    grid = generator(VQTokenizerConfig(**sizes, latent=8, vocab=32, code_channels=4).build(), "raster")
    assert isinstance(grid.spec.layout, Grid)
    with pytest.raises(ArzooError, match=r"need all 16 tokens of Grid.*ordered tokens"):
        grid.generate([0], tokens=4)
    with pytest.raises(ArzooError, match="need all 16 tokens"):
        generator(grid.tokenizer, "raster", ends=True)
    assert grid.generate([0]).token_counts.tolist() == [16]
    torch.manual_seed(0)
    for plan in ("masked", "confident"):
        anywhere = Generator.create(
            "mar_tiny", models["titok"].tokenizer, plan, classes=CLASSES, tokenizer_name="tok", tokenizer_hash="",
            plan_options={"steps": 3}, width=32, depth=1, ends=False,
        )  # fmt: skip
        with pytest.raises(ArzooError, match=rf"plan '{plan}' does not draw the tokens from the first"):
            anywhere.generate([0], tokens=2)
        assert anywhere.generate([0]).token_counts.tolist() == [6]


def test_given_tokens_stay_and_padding_is_drawn(models):
    model = generator(models["flextok"].tokenizer)
    *_, last = model.stream(classes=[0], seed=1)
    first = model.tokenizer.spec.empty(1)
    first.values[:] = last.run.tokens.values
    given = Tokens.of(first.values).first(3)
    *_, again = model.stream(classes=[1], seed=2, given=given)
    assert again.k == 7
    assert torch.equal(again.run.tokens.values[:, :3], given.values[:, :3])
    assert not torch.equal(again.run.tokens.values, given.values)
    assert model.generate([1], seed=2, given=given).token_counts.tolist() == [8]


@pytest.mark.parametrize("name", ["flextok", "karl"])
def test_pictures_drawn_several_steps_at_once_end_where_they_would(models, name):
    model, request = models[name], {"classes": [0, 1, 2, 0, 1], "seeds": [3, 4, 5, 6, 7], "batch": 2}
    expected = model.generate(**request, speculate=1)
    drawn = model.generate(**request, speculate=4)
    assert torch.equal(drawn, expected)
    assert torch.equal(drawn.token_counts, expected.token_counts)
    assert expected.token_counts.unique().numel() > 1, "of unlike lengths"
    few = model.generate(**request, speculate=4, tokens=3)
    assert torch.equal(few, model.generate(**request, speculate=1, tokens=3))
    assert int(few.token_counts.max()) <= 3


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded(models, name, tmp_path):
    for model in (models[name], generator(models[name].tokenizer, ends=False)):
        tokenizer = model.tokenizer
        save_parts(
            tmp_path / "tok",
            "tokenizer",
            {"tokenizer": tokenizer},
            overwrite=True,
            spec=tokenizer.spec.to_dict(),
        )
        model.save(tmp_path / "gen")
        loaded = Generator.load(tmp_path / "gen")
        assert loaded.spec == model.spec
        wanted = model.generate([0, 1, 2], seed=4).token_counts
        assert torch.equal(loaded.generate([0, 1, 2], seed=4).token_counts, wanted)


def test_generators_that_cannot_end_a_picture():
    for name in ("karl vectors over kl", "titok vectors"):
        with pytest.raises(ArzooError, match="a position has a vector"):
            generator(build(TOKENIZERS[name]), ends=True)
    with pytest.raises(ArzooError, match="a position has a vector"):
        generator(build(TOKENIZERS["karl vectors over kl"]))
    with pytest.raises(ArzooError, match=r"does not draw them in their order. Use plan ordered"):
        Generator.create(
            "mar_tiny", build(KARL), "masked", classes=CLASSES, tokenizer_name="tok", tokenizer_hash="",
            plan_options={"steps": 4}, width=32,
        )  # fmt: skip
