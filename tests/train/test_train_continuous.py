"""Training of generators of continuous tokens: what they see, what they are asked, and that they learn."""

import json
import math

import pytest
import torch
from command import tiny_tokenizer
from continuous_recipes import CELLS, MASKED, MODELS, recipe

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.generation.generator import Generator
from arzoo.train.build import run
from arzoo.train.example import Example, hide
from arzoo.train.generator import GeneratorObjective
from arzoo.train.objective import LOSS
from arzoo.train.run.health import hidden_by_step
from arzoo.train.settings import GeneratorLoss


def losses(out):
    return [line["loss"] for line in map(json.loads, (out / "log.jsonl").open())]


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_learns_saves_and_draws(two_colours, tmp_path, name):
    found = run(recipe(tmp_path, **MODELS[name]), tmp_path / "out")
    each = losses(tmp_path / "out")
    assert sum(each[-6:]) < 0.9 * sum(each[:6])
    assert found["metrics"]["validation_loss"] > 0
    model = Generator.load(tmp_path / "out" / "checkpoint", tmp_path / "tokenizer")
    plan = MODELS[name]["plan"]
    assert model.plan_options == (
        {} if isinstance(plan, str) else {k: v for k, v in plan.items() if k != "name"}
    )
    one, two = (model.generate(classes=[0, 1], seed=3, batch=size) for size in (1, 2))
    assert one.stills.shape == (2, 16, 16, 3)
    assert (one.int() - two.int()).abs().max() <= 1, "vectors depend on the batch by rounding only"


@pytest.mark.parametrize("name", ["mar", "xar", "himar"])
def test_a_weight_that_is_not_finite_is_named_and_the_last_good_state_stays(
    two_colours, tmp_path, monkeypatch, name
):
    loss = GeneratorObjective.loss

    def poisoned(self, name, parts, batch, step, *rest):
        if step == 7:
            next(p for n, p in self.parts["model"].named_parameters() if "qkv" in n).data[0, 0] = math.nan
        return loss(self, name, parts, batch, step, *rest)

    monkeypatch.setattr(GeneratorObjective, "loss", poisoned)
    changes = {"run": {"steps": 24, "batch": 8, "preview_every": 100, "save_every": 4, "log_every": 1}}
    with pytest.raises(
        ArzooError, match=r"not finite in step 8; .*the weight 'backbone\..*qkv.*step_0000004"
    ):
        run(recipe(tmp_path, **MODELS[name], **changes), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "state").iterdir()] == ["step_0000004"]


def test_settings_that_the_head_cannot_draw_with_are_refused_before_training(two_colours, tmp_path):
    loss = {"guidance": 1.0, "head_steps": 1}
    with pytest.raises(ArzooError, match="at least 3 head steps, got 1"):
        run(recipe(tmp_path, **CELLS | {"generator": loss}), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shown", 1.5), ("shown_warmup", -1), ("head_steps", -1), ("max_timestep", 5000),
        ("label_dropout", 2.0), ("temperature", -1.0), ("top_k", -3),
        ("guidance", math.nan), ("least_masked", 1.0), ("token_noise", -0.1), ("posterior_noise", 1.5),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ArzooError, match=f"generator.{name}"):
        GeneratorLoss(**{name: value})


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_tokens_are_sampled_as_noisily_as_asked(two_colours, tmp_path, noise):
    chosen = {"variants": 0, "generator": {"guidance": 1.0, "posterior_noise": noise}}
    objective = recipe(tmp_path, **MODELS["mar"] | chosen).build()
    rows = objective.sampler.rows(range(8))
    means = objective.codes.rows(torch.zeros_like(rows), rows)
    assert torch.equal(objective.batch(0, range(8)).targets, means) == (noise == 0)


@pytest.mark.parametrize("name", ["mar", "himar"])
def test_a_masked_run_that_stops_goes_on_exactly(two_colours, tmp_path, name):
    settings = recipe(tmp_path, **MODELS[name])
    run(settings, tmp_path / "whole", 12)
    for steps in (5, 12):
        run(settings, tmp_path / "parts", steps)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def example(batch=6, positions=16):
    values = torch.randn(batch, positions, 3)
    return Example(values, values, Cond(batch, label=torch.zeros(batch).long()), Draws(range(batch)))


def test_a_masked_example_asks_for_what_is_hidden():
    seen = hide(example(), "masked", Draws(range(6)), torch.Generator().manual_seed(1))
    assert seen.known is not None
    assert seen.asked is not None
    hidden = torch.zeros(6, 16, dtype=torch.bool).scatter(1, seen.asked, True)
    assert torch.equal(hidden, ~seen.known)
    assert 0.7 * 16 <= seen.asked.shape[1] <= 16
    assert len({tuple(row) for row in seen.asked.tolist()}) > 1  # every sample has an order of its own
    assert torch.equal(seen.asked, seen.asked.sort(1).values)


def test_contexts_of_models_that_denoise_in_place():
    noisy = hide(example(), "noisy", Draws(range(6)), torch.Generator())
    assert noisy.known is not None
    assert not noisy.known.any()
    assert noisy.asked is None
    assert hide(example(), "true", Draws(range(6)), torch.Generator()).known is None


def test_only_hidden_tokens_count_and_hidden_values_do_not_leak(two_colours, tmp_path):
    objective = recipe(tmp_path, **MODELS["mar"]).build()
    part, batch = objective.parts["model"].eval(), objective.batch(0, range(4))
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        first = part(batch)
        assert first.shape == batch.asked.shape
        values = batch.values.clone().masked_fill_(~batch.known[..., None], 7.0)
        again = part(
            Example(values, batch.targets, batch.cond, batch.draws.at(LOSS), batch.known, batch.asked)
        )
        other = part(
            Example(
                batch.values + 1, batch.targets, batch.cond, batch.draws.at(LOSS), batch.known, batch.asked
            )
        )
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.allclose(first, other)


def test_the_scale_of_the_tokenizer_is_part_of_the_codes(two_colours, tmp_path):
    settings = recipe(tmp_path, **MODELS["xar"])
    objective = settings.build()
    assert (
        objective.codes.key["settings"]
        == open_checkpoint(tmp_path / "tokenizer").load("tokenizer").config.hash()
    )


def test_masked_models_tell_their_loss_by_what_is_hidden(two_colours, tmp_path):
    tiny_tokenizer(tmp_path / "codes")
    pace = {"steps": 2, "batch": 8, "preview_every": 2, "trackers": []}
    of_codes = {"tokenizer": str(tmp_path / "codes"), "heads": ["categorical"], "run": pace}
    for name, changes in (("vectors", {"run": pace}), ("codes", of_codes)):
        objective = recipe(tmp_path, **MASKED | changes).build()
        assert [n for n, _ in hidden_by_step(objective.plan)] == [16, 14, 11, 6], (
            "N cos(pi/2 k/4), rounded down"
        )
        run(recipe(tmp_path, **MASKED | changes), tmp_path / name)
        line = json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])
        each = line["validation_loss_by_step"]
        assert len(each) == 4
        assert min(each) < line["validation_loss"] * 1.5
        assert ("token_entropy" in line) == (name == "codes")
    assert sum(line["token_entropy_by_step"]) / 4 == pytest.approx(line["token_entropy"], rel=1e-3)
    assert 0 < line["token_entropy"] <= math.log(16) + 1e-4
