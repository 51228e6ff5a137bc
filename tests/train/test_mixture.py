"""Mixtures of losses: their weights, what they ask for, and that generators of all kinds of tokens learn them."""

import json
import math
from collections import Counter

import pytest
import torch
from command import tiny_kl_tokenizer, tiny_tokenizer
from rich.console import Console
from squares import FRAMES, moving_squares
from toy import same, whole_and_in_parts

import arzoo.data
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.tokenizers.vq.network import VQTokenizerConfig
from arzoo.train.build import prepared, run
from arzoo.train.curriculum import TERMS, Mixture, curriculum
from arzoo.train.example import TokenLoss
from arzoo.train.generator import GeneratorObjective
from arzoo.train.mixture import PAIRS, later_pairs
from arzoo.train.mixture_objective import MixtureObjective
from arzoo.train.recipe import Recipe, load_recipe

ALL = {"random": 0.5, "next": 1.0, "next_all": 2.0}
MAMBA = {"name": "mamba_tiny", "width": 32, "depth": 1, "head_width": 16, "state_size": 8}
HEAD = {"name": "diffusion_mlp_tiny", "hidden": 32, "depth": 1}
TOKENIZERS = {"codes": tiny_tokenizer, "vectors": tiny_kl_tokenizer}


def recipe(tmp_path, mixture, kind="codes", steps=24, run=None, **changes):
    tokenizer = tmp_path / kind
    if not tokenizer.exists():
        TOKENIZERS[kind](tokenizer)
    pace = {"steps": steps, "batch": 8, "threads": 0, "preview_every": 100, "save_every": 100, "log_every": 1}
    whole = {
        "task": "generator", "data": "two", "tokenizer": str(tokenizer), "variants": 1, "model": MAMBA,
        "plan": "raster", "heads": [HEAD] if kind == "vectors" else [],
        "generator": {"guidance": 1.0, "mixture": mixture},
        "optim": {"lr": 3e-3, "warmup": 3, "ema": 0.9}, "run": pace | (run or {}),
    }  # fmt: skip
    return Recipe.from_dict(whole | changes)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def mean(lines, name):
    return sum(line[name] for line in lines) / len(lines)


@pytest.mark.parametrize(
    ("progress", "weights"),
    [
        (0.0, (0.73, 0.18, 0.09)),
        # Half of the first phase and half of the second.
        (0.3, (0.41, 0.455, 0.135)),
        # The first phase is 0.01 away, half a temperature: 1 / (1 + e^0.5) = 0.37754 of it, 0.62246 of the second.
        (0.31, (0.33163, 0.52235, 0.14602)),
        (0.5, (0.09, 0.73, 0.18)),
        (0.7, (0.09, 0.455, 0.455)),
        (1.0, (0.09, 0.18, 0.73)),
    ],
)
def test_the_curriculum(progress, weights):
    assert curriculum(progress) == pytest.approx(weights, abs=1e-4)
    assert sum(curriculum(progress)) == pytest.approx(1)
    assert curriculum(0.31, temperature=1e-3) == pytest.approx((0.09, 0.73, 0.18), abs=1e-4)
    assert Mixture(curriculum=True).weights(progress) == dict(zip(TERMS, curriculum(progress), strict=True))


def test_weights_without_a_curriculum_stay():
    assert Mixture(**ALL).weights(0.0) == Mixture(**ALL).weights(0.9) == ALL
    assert Mixture(next_all=0.5).terms == ("next", "next_all")
    assert not Mixture().mixes
    assert Mixture(next=0.5).mixes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"random": -1.0}, r"mixture\.random must be finite and at least 0"),
        ({"next_all": math.inf}, r"mixture\.next_all"),
        ({"next": 0.0, "next_all": 1.0}, "has random=0, next=0, next_all=1: then nothing trains the head"),
        ({"curriculum": True, "random": 0.5}, "curriculum sets the weights .* has random=0.5"),
    ],
)
def test_weights_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ArzooError, match=message):
        Mixture(**settings)


def test_pairs_are_all_alike_and_follow_from_the_sample():
    pairs = later_pairs(Draws(range(300)), 4)
    assert pairs.shape == (300, PAIRS, 2)
    counts = Counter(map(tuple, pairs.flatten(0, 1).tolist()))
    assert set(counts) == {(a, b) for b in range(4) for a in range(b)}
    assert all(abs(n / (300 * PAIRS) - 1 / 6) < 0.02 for n in counts.values())
    assert torch.equal(later_pairs(Draws([7, 8]), 4), pairs[7:9])


@pytest.fixture
def objective(two_colours, tmp_path):
    """The objective of all three losses over codes, whose head has weights."""
    built = recipe(tmp_path, ALL).build()
    torch.manual_seed(1)
    torch.nn.init.normal_(built.model.heads[0].output.weight, std=0.3)
    return built


def test_the_losses_are_those_of_their_definition(objective):
    batch, network = objective.batch(3, range(4)), objective.parts["model"].eval()
    losses = network(batch)
    codes, cond, plan = batch.plain.values, batch.plain.cond, objective.plan

    def nll(features, codes):
        read = network.backbone.features(Tokens.of(codes), cond, plan)
        logits = network.heads[0].predict(type(read)(read.positions, features))
        return -logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]

    features = network.backbone.features(Tokens.of(codes), cond, plan).features
    torch.testing.assert_close(losses["next"], nll(features, codes))
    for row in range(4):
        for i, (before, asked) in enumerate(batch.pairs[row].tolist()):
            there = network.resampler(features[row : row + 1, [before]], torch.tensor([[asked]]))
            logits = network.heads[0].predict(network.read(batch.plain)[0].__class__(None, there))
            expected = -logits.log_softmax(-1)[0, 0, codes[row, asked]]
            torch.testing.assert_close(losses["next_all"][row, i], expected)
    hidden = batch.hidden
    shown = Tokens.of(codes, hidden.known)
    expected = nll(network.backbone.features(shown, cond, plan).features, codes).gather(1, hidden.asked)
    torch.testing.assert_close(losses["random"], expected)
    total, numbers = objective.loss("model", objective.parts, objective.batch(3, range(4)), 3)
    expected = sum(weight * numbers[f"{term}_loss"] for term, weight in ALL.items())
    torch.testing.assert_close(total, expected)


def test_a_hidden_token_says_nothing_but_its_position(objective):
    network, batch = objective.parts["model"].eval(), objective.batch(0, range(4)).plain
    known = torch.ones(4, 16, dtype=torch.bool)
    known[:, 5] = False

    def features(values, known=known):
        return network.backbone.features(Tokens.of(values, known), batch.cond, objective.plan).features

    other = batch.values.clone()
    other[:, 5] = (other[:, 5] + 1) % 16
    assert torch.equal(features(batch.values), features(other))
    open_ = torch.ones_like(known)
    assert not torch.equal(features(batch.values, open_), features(other, open_))
    torch.testing.assert_close(features(batch.values)[:, :6], features(batch.values, open_)[:, :6])
    later = batch.values.clone()
    later[:, 9:] = 0
    assert torch.equal(features(batch.values)[:, :10], features(later)[:, :10]), "no later token is seen"


def test_as_many_tokens_are_hidden_as_published(objective):
    shares = [objective.batch(step, range(2)).hidden.asked.shape[1] / 16 for step in range(60)]
    assert min(shares) < 0.3
    assert max(shares) > 0.7
    assert all(0.125 <= share <= 0.8 for share in shares)
    whole, part = (objective.batch(5, numbers) for numbers in (range(8), range(3, 5)))
    assert torch.equal(whole.hidden.asked[3:5], part.hidden.asked)
    assert torch.equal(whole.pairs[3:5], part.pairs)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_loss_falls(two_colours, tmp_path, kind):
    figures = run(recipe(tmp_path, ALL, kind), tmp_path / "out")["metrics"]
    lines = log(tmp_path / "out")
    for term in TERMS:
        assert mean(lines[-6:], f"{term}_loss") < 0.9 * mean(lines[:6], f"{term}_loss")
        assert figures[f"validation_{term}_loss"] > 0
    assert figures["validation_next_loss"] == pytest.approx(figures["validation_loss"], rel=1e-5)


def test_losses_without_a_weight_are_not_computed(two_colours, tmp_path):
    built = recipe(tmp_path, {"random": 1.0, "next": 0.0}).build()
    assert built.parts["model"].resampler is None
    _, numbers = built.loss("model", built.parts, built.batch(0, range(4)), 0)
    assert set(numbers) == {"random_loss"}
    figures = built.validate(built.parts["model"].eval())
    assert "validation_random_loss" in figures
    assert "validation_next_all_loss" not in figures


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_curriculum_continues_bit_for_bit_and_exports_a_plain_generator(two_colours, tmp_path, kind):
    settings = recipe(tmp_path, {"curriculum": True}, kind, steps=10)
    states = whole_and_in_parts(lambda out, end: run(settings, out, end), tmp_path, 5, 10)
    assert same(*states)
    assert any("resampler" in name for name in states[0])
    lines = log(tmp_path / "whole")
    assert {f"{term}_{what}" for term in TERMS for what in ("loss", "weight")} < set(lines[0])
    assert {f"validation_{term}_loss" for term in TERMS} < set(lines[-1])
    for line in lines:
        expected = sum(line[f"{term}_weight"] * line[f"{term}_loss"] for term in TERMS)
        assert line["loss"] == pytest.approx(expected, rel=1e-3)
    assert lines[0]["random_weight"] > 0.7
    assert lines[-1]["next_all_weight"] > 0.7
    checkpoint = open_checkpoint(tmp_path / "whole" / "checkpoint")
    assert set(checkpoint.parts) == {"backbone", "head"}
    model = Generator.load(tmp_path / "whole" / "checkpoint", tmp_path / kind)
    plain = recipe(tmp_path, {}, kind).build().model
    names = [[name for name, _ in part.named_parameters()] for part in (model.backbone, plain.backbone)]
    assert names[0] == names[1]
    knobs = {} if kind == "codes" else {"head_steps": 5}
    assert model.generate(classes=[0, 1], seed=3, **knobs).stills.shape == (2, 16, 16, 3)


def test_micro_batches_change_roundings_only(two_colours, tmp_path):
    courses = []
    for accumulate in (1, 2):
        settings = recipe(
            tmp_path, ALL, model=MAMBA | {"dropout": 0.1}, run={"accumulate": accumulate, "batch": 8}
        )
        engine = prepared(settings, tmp_path / "out", Console(quiet=True), None)
        batches, course = engine.batches(range(3)), []
        for _ in range(3):
            line = engine.train_step(batches, engine.wrapped)
            engine.step += 1
            course += [float(line[f"{term}_loss"]) for term in TERMS] + [float(line["model_gradient_norm"])]
        courses.append(course)
    assert courses[0] == pytest.approx(courses[1], rel=1e-4)


def test_every_parameter_has_a_gradient(objective):
    loss, _ = objective.loss("model", objective.parts, objective.batch(0, range(8)), 0)
    loss.backward()
    missing = [
        name
        for name, parameter in objective.parts["model"].named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]
    assert missing == []


def test_without_a_mixture_nothing_changes(objective, two_colours, tmp_path):
    plain = recipe(tmp_path, {}).build()
    assert type(plain) is GeneratorObjective
    assert type(plain.parts["model"]) is TokenLoss
    assert isinstance(objective, MixtureObjective)
    for ours, theirs in zip(
        objective.model.backbone.parameters(), plain.model.backbone.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), "what a mixture adds is drawn after the generator"
    mixed, alone = objective.batch(2, range(8)), plain.batch(2, range(8))
    assert torch.equal(mixed.plain.values, alone.values)
    assert torch.equal(mixed.plain.cond.label, alone.cond.label)


MASKED = {"model": {"name": "mar_tiny", "width": 32, "depth": 1}, "plan": {"name": "masked", "steps": 4}}
RASTER = {"model": {"name": "raster_tiny", "width": 32, "depth": 1}}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vectors", MASKED, r"for causal models, .* plan masked"),
        (
            "codes",
            {"model": {"name": "nar_tiny", "width": 32, "depth": 1}, "plan": "next_neighbor"},
            "plan next_neighbor",
        ),
        ("codes", RASTER, r"backbone llamagen.* cannot feed a hidden token: use a Mamba"),
    ],
)
def test_models_that_it_means_nothing_for_are_refused(two_colours, tmp_path, kind, changes, message):
    with pytest.raises(ArzooError, match=message):
        recipe(tmp_path, ALL, kind, **changes).build()


def test_a_causal_transformer_learns_later_tokens(two_colours, tmp_path):
    run(recipe(tmp_path, {"next_all": 1.0}, **RASTER), tmp_path / "out")
    lines = log(tmp_path / "out")
    for term in ("next", "next_all"):
        assert mean(lines[-6:], f"{term}_loss") < mean(lines[:6], f"{term}_loss")


def test_a_grid_of_frames_rows_and_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(arzoo.data, "load", lambda *_: moving_squares())
    monkeypatch.setattr(GeneratorObjective, "preview", lambda *_: None)
    torch.manual_seed(0)
    sizes = {"encoder_blocks": 1, "decoder_blocks": 1, "latent": 32, "attention": False, "code_channels": 4}
    config = VQTokenizerConfig(image_size=32, frames=FRAMES, widths=(32, 32, 32, 32), vocab=16, **sizes)
    tokenizer = config.build()
    assert tokenizer.spec.layout == Grid(5, 4, 4)
    save_parts(
        tmp_path / "clips", "tokenizer", {"tokenizer": tokenizer}, bits=16, spec=tokenizer.spec.to_dict()
    )
    run(recipe(tmp_path, {"curriculum": True}, "clips", data="squares"), tmp_path / "out")
    lines = log(tmp_path / "out")
    for term in TERMS:
        assert mean(lines[-6:], f"{term}_loss") < 0.95 * mean(lines[:6], f"{term}_loss")
    model = Generator.load(tmp_path / "out" / "checkpoint", tmp_path / "clips")
    assert model.generate(classes=[0], seed=1).shape == (1, FRAMES, 32, 32, 3)


def test_the_shipped_recipe_is_that_of_mamba_with_a_curriculum():
    ours, theirs = load_recipe("tokenunify_emoji64"), load_recipe("mamba_emoji64")
    assert ours == theirs.replace(generator={"mixture": {"curriculum": True}})
    typed = load_recipe("mamba_emoji64", typed=["generator.mixture.next_all=0.5"])
    assert typed.generator.mixture == Mixture(next_all=0.5)
