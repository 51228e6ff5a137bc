"""Training of generators over tokens whose number follows the picture: what carries a loss, and who reads what."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from ordered import FLEXTOK, build, tiny_adaptive, tiny_prefixes

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import save_parts
from arzoo.cli.tokenize import load_tokenizer
from arzoo.core.clips import as_clips
from arzoo.core.ends import counted, end_of
from arzoo.data.encoding import encode_split
from arzoo.data.transforms import to_model
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.tokenizers.common.lengths import mean_errors
from arzoo.train.build import prepared, run
from arzoo.train.recipe import Recipe


@pytest.fixture
def folder(two_colours, tmp_path, monkeypatch):
    """Where the tokenizers are."""
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    tiny_prefixes(tmp_path / "flextok")
    tiny_adaptive(tmp_path / "karl")
    return tmp_path


def recipe(folder, tokenizer: str, **changes) -> Recipe:
    pace = {"steps": 24, "batch": 8, "threads": 0, "preview_every": 100, "save_every": 20, "log_every": 1}
    whole = {
        "task": "generator", "data": "two", "tokenizer": str(folder / tokenizer), "variants": 1,
        "model": {"name": "raster_tiny", "width": 32, "depth": 1, "heads": 2}, "plan": "ordered",
        "generator": {"guidance": 1.0}, "optim": {"lr": 3e-3, "warmup": 3, "ema": 0.9}, "run": pace,
    }  # fmt: skip
    return Recipe.from_dict(whole | changes)


@torch.no_grad()
def middle(folder) -> float:
    """A quality of FlexTok that some pictures reach early and others do not."""
    import arzoo.data

    model = load_tokenizer(str(folder / "flextok"))[0]
    x = as_clips(to_model(arzoo.data.load("two", 16).pixels(slice(None))))
    return float(mean_errors(model.decode(model.encode(x).first(2)), x).median())


def objective(folder, out, tokenizer, **changes):
    from rich.console import Console

    return prepared(recipe(folder, tokenizer, **changes), out, Console(quiet=True), None).objective


@pytest.mark.parametrize("name", ["karl", "flextok"])
def test_it_learns_where_a_picture_ends_saves_and_draws(folder, name):
    quality = {} if name == "karl" else {"quality": middle(folder)}
    result = run(recipe(folder, name, **quality), folder / "out")
    each = [line["loss"] for line in map(json.loads, (folder / "out" / "log.jsonl").open())]
    assert sum(each[-6:]) < 0.9 * sum(each[:6])
    assert result["metrics"]["validation_loss"] > 0
    model = Generator.load(folder / "out" / "checkpoint", folder / name)
    assert model.spec.ends
    together = model.generate([0, 1, 0, 1], seed=3)
    assert torch.equal(together, model.generate([0, 1, 0, 1], seed=3, batch=1))
    record = json.loads((folder / "out" / "checkpoint" / "model_index.json").read_text())
    assert ("quality" in record["training"]["lineage"]["codes"]) is True


@pytest.mark.parametrize("name", ["karl", "flextok"])
def test_what_lies_behind_the_end_carries_no_loss(folder, name):
    quality = {} if name == "karl" else {"quality": middle(folder)}
    training = objective(folder, folder / "out", name, **quality)
    spec, batch = training.model.spec, training.batch(0, range(8))
    count = counted(batch.targets, spec).sum(1)
    assert count.unique().numel() > 1
    torch.nn.init.normal_(training.model.heads[0].output.weight, std=0.3)
    network = training.parts["model"].eval()

    def gradients(example):
        network.zero_grad()
        loss, figures = training.loss("model", {"model": network}, example, 0)
        loss.backward()
        each = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        return loss.detach(), each, figures["loss_by_step"]

    tail = ~counted(batch.targets, spec)
    assert bool((batch.targets[tail] == end_of(spec)).all())
    junk = torch.where(tail, 3, batch.targets)
    first, second = gradients(batch), gradients(replace(batch, values=junk, targets=junk))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[2], second[2])
    for one, other in zip(first[1], second[1], strict=True):
        assert torch.equal(one, other)
    each = network(batch)
    expected = sum(row[:n].sum() for row, n in zip(each, count.tolist(), strict=True)) / 8
    torch.testing.assert_close(first[0] * training.mean_count, expected.detach())


def test_plans_that_are_given_their_first_tokens(folder):
    plan = {"name": "next_block", "size": 2}
    training = objective(folder, folder / "out", "karl", plan=plan)
    batch = training.batch(0, range(8))
    loss, figures = training.loss("model", training.parts, batch, 0)
    count = counted(batch.targets, training.model.spec)[:, 2:]
    each = training.parts["model"].eval()(batch)
    assert each.shape == count.shape
    assert loss.isfinite()
    assert len(figures["loss_by_step"]) == 5
    assert training.summary()["unigram loss"] > 0


def test_parts_of_a_batch_add_up_to_it(folder):
    training = objective(folder, folder / "out", "karl")
    network = training.parts["model"].eval()

    def loss(numbers):
        return training.loss("model", {"model": network}, training.batch(0, numbers), 0)[0]

    with torch.no_grad():
        halves = (loss(range(4)) + loss(range(4, 8))) / 2
        torch.testing.assert_close(halves, loss(range(8)))


def test_caches_that_do_not_suit_the_recipe(folder):
    import arzoo.data

    quality, data = middle(folder), arzoo.data.load("two", 16)
    for name, q in (("all", None), ("some", quality)):
        tokenizer, weights = load_tokenizer(str(folder / "flextok"))
        for split in ("train", "validation"):
            target = folder / "codes" / name / split
            encode_split(target, tokenizer, weights, data.split(split), Views(), quality=q)
    some, everything = ({"codes": str(folder / "codes" / name)} for name in ("some", "all"))
    assert objective(folder, folder / "a", "flextok", **some, quality=quality).model.spec.ends
    assert not objective(folder, folder / "a", "flextok", **everything).model.spec.ends
    with pytest.raises(ArzooError, match=rf"to quality {quality:g}, the recipe says quality 0.*Set quality"):
        objective(folder, folder / "a", "flextok", **some)
    with pytest.raises(ArzooError, match=r"to quality 0, the recipe says quality 0\.2.*--quality Q"):
        objective(folder, folder / "a", "flextok", **everything, quality=0.2)


def test_qualities_and_tokens_that_cannot_be_trained_on(folder):
    with pytest.raises(ArzooError, match=r"from 0 to 0\.38, got 0\.5; the nearest is 0\.38"):
        objective(folder, folder / "a", "karl", quality=0.5)
    with pytest.raises(ArzooError, match="quality"):
        recipe(folder, "karl", quality=-1.0)
    with pytest.raises(ArzooError, match="random_orders shuffles all positions"):
        objective(folder, folder / "a", "karl", generator={"guidance": 1.0, "random_orders": [5, 10]})
    with pytest.raises(ArzooError, match="does not draw them in their order"):
        objective(
            folder, folder / "a", "karl",
            model={"name": "mar_tiny", "width": 32, "depth": 1}, plan={"name": "masked", "steps": 4},
        )  # fmt: skip


def test_fixed_lengths_are_trained_as_before(folder):
    tokenizer = build(FLEXTOK)
    save_parts(folder / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    training = objective(folder, folder / "out", "tok")
    assert not training.model.spec.ends
    assert training.model.heads[0].config.vocab == tokenizer.spec.vocab
    assert training.summary()["tokens per picture"] == 8
