"""Training: continuing is the same as never stopping, losses fall, codes know their tokenizer."""

import json
import shutil
import signal

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.index import PICTURE
from arzoo.core.draws import step_rng
from arzoo.core.tokens import Tokens
from arzoo.data.codes import Codes
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import falling
from arzoo.train import objectives
from arzoo.train.build import run
from arzoo.train.objective import Sampler, balanced_weights
from arzoo.train.recipe import load_recipe, recipes
from arzoo.train.run import state
from arzoo.train.run.interrupt import StopRequest


@pytest.fixture(scope="module")
def tokenizer_run(tmp_path_factory):
    """Twenty steps of the smoke recipe."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    return out, run(load_recipe("smoke"), out, max_steps=20)


def weights(folder):
    return {k: v for path in sorted(folder.rglob("model.safetensors")) for k, v in load_file(path).items()}


def losses(out):
    return [(line["step"], line["loss"]) for line in map(json.loads, (out / "log.jsonl").open())]


def generator_recipe(tokenizer, **changes):
    changes = {
        "tokenizer": str(tokenizer),
        "data": "emoji32",
        "limit": 200,
        "model": {"width": 32, "depth": 2},
        "variants": 1,
    } | changes
    pace = {"steps": 30, "batch": 16, "threads": 0, "preview_every": 100, "save_every": 100, "log_every": 5}
    return load_recipe("nar_emoji64", {**changes, "optim": {"warmup": 3}, "run": pace})


@pytest.mark.parametrize("name", sorted(recipes()))
def test_shipped_recipes_are_valid(name):
    recipe = load_recipe(name)
    assert recipe == type(recipe).from_dict(recipe.to_dict())


def test_stopping_and_continuing_changes_nothing(tokenizer_run, tmp_path):
    whole, _ = tokenizer_run
    for steps in (7, 20):
        run(load_recipe("smoke"), tmp_path / "parts", max_steps=steps)
    once, twice = weights(whole / "checkpoint"), weights(tmp_path / "parts" / "checkpoint")
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[k], twice[k]) for k in once)
    final = dict(losses(whole))
    assert all(final[step] == loss for step, loss in losses(tmp_path / "parts") if step in final)


def test_a_second_interrupt_stops_at_once():
    with StopRequest(Console(quiet=True)) as request:
        signal.raise_signal(signal.SIGINT)
        assert request.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_tokenizer_training_lowers_the_loss_and_leaves_everything(tokenizer_run):
    out, result = tokenizer_run
    found = losses(out)
    assert found[-1][1] < 0.7 * found[0][1]
    assert (out / "previews" / "reconstructions_0000020.png").exists()
    assert state.latest(out).name == "step_0000020"
    assert open_checkpoint(result["checkpoint"], "tokenizer").load("tokenizer").spec.vocab == 128
    assert not list(out.rglob("*.partial"))
    assert any("discriminator_loss" in json.loads(line) for line in (out / "log.jsonl").open())


def test_a_checkpoint_shows_the_newest_preview_of_its_own_steps(tokenizer_run, tmp_path):
    out = shutil.copytree(tokenizer_run[0], tmp_path / "run")
    (out / "previews" / "reconstructions_0000030.png").write_bytes(b"of lost steps")
    run(load_recipe("smoke"), out, max_steps=21)
    newest = out / "previews" / "reconstructions_0000021.png"
    assert (out / "checkpoint" / PICTURE).read_bytes() == newest.read_bytes()
    assert f"]({PICTURE})" in (out / "checkpoint" / "README.md").read_text()


def test_another_recipe_does_not_continue_a_run(tokenizer_run):
    out, _ = tokenizer_run
    with pytest.raises(ArzooError, match="differ in: optim"):
        run(load_recipe("smoke", {"optim": {"lr": 0.5}}), out, max_steps=21)


def test_generator_learns_saves_and_draws(tokenizer_run, tmp_path):
    recipe = generator_recipe(tokenizer_run[0] / "checkpoint")
    result = run(recipe, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert found[0][1] <= 4.86, "a zero projection starts at ln(128)"
    assert found[-1][1] < found[0][1] - 0.15
    assert result["metrics"]["validation_loss"] < 4.8
    shutil.copytree(tokenizer_run[0] / "checkpoint", tmp_path / "run" / "checkpoint" / "tokenizer")
    model = Generator.load(tmp_path / "run" / "checkpoint")
    assert model.generate([0, 1], seed=3).stills.shape == (2, 32, 32, 3)
    assert len(model.plan()) == 15


def test_positions_without_a_source_are_left_out_of_the_loss(tokenizer_run, tmp_path):
    """The first block of frame prediction is given: its loss says nothing, and previews need it."""
    changes = {
        "plan": {"name": "next_block", "size": 8},
        "model": {"name": "raster_tiny", "width": 32, "depth": 2},
    }
    objective = generator_recipe(tokenizer_run[0] / "checkpoint", **changes).build()
    network, batch = objective.parts["model"].eval(), objective.batch(0, range(4))
    torch.nn.init.normal_(network.heads[0].output.weight)
    read = network.backbone.features(Tokens.of(batch.values), batch.cond, objective.plan)
    whole = network.heads[0].loss(read, batch.targets)
    torch.testing.assert_close(network(batch), whole[:, 8:])
    loss, figures = objective.loss("model", objective.parts, batch, 0)
    torch.testing.assert_close(loss, whole[:, 8:].mean())
    assert len(figures["loss_by_step"]) == 7
    assert len(objective.validate(network)["token_entropy_by_step"]) == 7
    objective.preview(network, tmp_path, 0)
    assert (tmp_path / "samples_0000000.png").exists()


def test_the_confidence_order_is_trained_as_a_masked_model(tokenizer_run):
    changes = {
        "plan": {"name": "confident", "steps": 6},
        "model": {"name": "mar_tiny", "width": 32, "depth": 1, "decoder_depth": 1},
        "generator": {"temperature": 4.0, "temperature_over": "steps", "top_k": 0},
    }
    objective = generator_recipe(tokenizer_run[0] / "checkpoint", **changes).build()
    batch = objective.batch(0, range(4))
    assert 0 < int(batch.known.sum()) < batch.known.numel()
    assert batch.asked is not None
    assert len(objective.validate(objective.parts["model"])["validation_loss_by_step"]) == 6
    temperature = objective.model.control.temperature
    assert temperature == falling(4.0)


def test_random_orders_give_way_to_that_of_the_plan(tokenizer_run, tmp_path):
    changes = {
        "plan": {"name": "raster"},
        "model": {"name": "rar_tiny", "width": 32, "depth": 1},
        "generator": {"random_orders": [10, 20]},
    }
    recipe = generator_recipe(tokenizer_run[0] / "checkpoint", **changes)
    objective = recipe.build()
    assert objective.model.heads[0].config.plain
    raster = torch.arange(64)
    for step, least, most in ((0, 64, 64), (10, 64, 64), (15, 20, 44), (20, 0, 0)):
        plan = objective.batch(step, range(64)).plan
        random = 0 if plan is None else int((plan.rank != raster).any(1).sum())
        assert least <= random <= most, step
    whole, part = (objective.batch(12, numbers).plan.rank for numbers in (range(8), range(3, 5)))
    assert torch.equal(whole[3:5], part), "an order follows from the number of the sample"
    run(recipe, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert found[-1][1] < found[0][1] - 0.1
    with pytest.raises(ArzooError, match=r"one after another.*plan next_neighbor"):
        generator_recipe(tokenizer_run[0] / "checkpoint", generator={"random_orders": [1, 2]}).build()
    with pytest.raises(ArzooError, match=r"ascending order, .* got \[5, 2\]"):
        generator_recipe(tokenizer_run[0] / "checkpoint", generator={"random_orders": [5, 2]})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan": {"name": "next_block", "size": 7}}, "7"),
        ({"model": {"name": "mar_tiny"}}, "'next_neighbor'.*backbone mar"),
        ({"init": "raster_emoji64"}, "was trained on tokenizer"),
        ({"generator": {"random_orders": [1, 2]}}, "one after another"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_data_is_encoded(
    tokenizer_run, monkeypatch, changes, reason
):
    def encode(*_, **__):
        pytest.fail("the data is encoded for nothing")

    monkeypatch.setattr(objectives, "encode_split", encode)
    monkeypatch.setattr(objectives, "codes_or_sketch", encode)
    with pytest.raises(ArzooError, match=reason):
        generator_recipe(tokenizer_run[0] / "checkpoint", **changes).build()


def test_codes_of_another_tokenizer_are_refused(tokenizer_run, tmp_path):
    recipe = generator_recipe(tokenizer_run[0] / "checkpoint")
    objective = recipe.build()
    folder = tmp_path / "codes"
    shutil.copytree(objective.codes.folder, folder)
    again, first = Codes.load(folder), torch.zeros(3, dtype=torch.long)
    assert torch.equal(again.rows(first, first + 2), objective.codes.rows(first, first + 2))
    again.key["tokenizer"] = "0" * 64
    with pytest.raises(ArzooError, match="Encode the data again"):
        type(objective)(objective.model, again, objective.validation, recipe.generator, 0.0, 0)
    (folder / again.shards[0]).write_bytes(b"")
    with pytest.raises(ArzooError, match="not a whole code cache"):
        Codes.load(folder)


def test_unknown_settings_and_recipes_are_corrected():
    with pytest.raises(UnknownName, match="nar_emoji64"):
        load_recipe("nar_emoji46")
    with pytest.raises(ArzooError, match="dropout"):
        load_recipe("nar_emoji64", {"model": {"droput": 0.1}})
    with pytest.raises(ArzooError, match="batch=5"):
        load_recipe("smoke", {"run": {"batch": 5, "accumulate": 2}})


def test_sampler_visits_everything_once_an_epoch_and_depends_on_the_step_alone():
    sampler = Sampler(10, seed=1)
    rows = torch.cat([sampler.rows(range(first, first + 4)) for first in range(0, 20, 4)])
    assert torch.equal(rows[:10].sort().values, torch.arange(10))
    assert torch.equal(rows[10:].sort().values, torch.arange(10))
    assert torch.equal(Sampler(10, seed=1).rows(range(12, 16)), rows[12:16])
    assert not torch.equal(torch.rand(3, generator=step_rng(0, 1)), torch.rand(3, generator=step_rng(0, 2)))
    assert balanced_weights(torch.tensor([0, 0, 0, 1]), 1.0).tolist() == pytest.approx([1 / 3] * 3 + [1])
