"""Training of one-dimensional tokenizers: over a frozen base, and aligned with a feature network."""

import json

import pytest
import torch
import toy
from rich.console import Console
from safetensors.torch import load_file

from arzoo.base.config import load_yaml
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.tokenizers.flextok.presets import flextok_kl_small
from arzoo.tokenizers.flextok.tokenizer import FlexTok
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.train.alignment import AlignmentTargets
from arzoo.train.build import prepared, run
from arzoo.train.objectives import objective_of
from arzoo.train.recipe import Recipe, load_recipe

STACK = {"width": 32, "depth": 2, "heads": 2}
MODEL = {
    "name": "flextok_kl_small",
    "encoder": STACK,
    "decoder": STACK,
    "registers": 8,
    "image_size": 32,
    "steps": 2,
}
NO_PICTURES = {"l1": 0.0, "l2": 0.0, "perceptual": 0.0, "adversarial": 0.0}


def kl(run, seed=5):
    """A run that trained a tiny autoencoder of 32 x 32 pictures, as far as its weights matter here."""
    torch.manual_seed(seed)
    tokenizer = KLTokenizerConfig(
        image_size=32, widths=(16, 16), unshuffle=2, encoder_blocks=1, decoder_blocks=1, channels=4,
        encoder_attention="none", decoder_attention="none", scale=0.8,
    ).build()  # fmt: skip
    save_parts(run / "checkpoint", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    return str(run)


@pytest.fixture
def base(tmp_path):
    return kl(tmp_path / "kl")


def recipe(base, **changes):
    pace = {
        "steps": 8,
        "batch": 4,
        "log_every": 1,
        "preview_every": 100,
        "save_every": 100,
        "precision": "fp32",
    }
    whole = {
        "data": "emoji32", "limit": 30, "model": MODEL, "base": base, "balance": 0.0, "augment": {"resize": 0.0},
        "optim": {"warmup": 2, "ema": 0.9, "lr": 6e-3}, "run": pace,
    }  # fmt: skip
    return load_recipe("ordered_emoji64", whole | changes)


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def test_alignment_falls_and_stays_out_of_the_checkpoint(base, tmp_path):
    aligned = recipe(base, loss=NO_PICTURES | {"align": 0.5})
    for end in (3, 8):
        run(aligned, tmp_path / "run", max_steps=end)
    first, *_, last = lines(tmp_path / "run")
    assert (first["step"], last["step"]) == (1, 8)
    assert first["loss"] == pytest.approx(first["flow"] + 0.5 * first["align"], abs=2e-4)
    assert first["align"] > 0.9, "an untrained head points anywhere"
    assert last["align"] < 0.85 * first["align"]
    tokenizer = open_checkpoint(str(tmp_path / "run"), "tokenizer").load("tokenizer")
    assert isinstance(tokenizer, FlexTok)
    stored = load_file(tmp_path / "run" / "checkpoint" / "tokenizer" / "model.safetensors")
    own = {name for name in tokenizer.state_dict() if not name.startswith("base.")}
    assert stored.keys() == own, "strict, and without what training alone needs"


def test_without_alignment_nothing_of_it_is_built(base, monkeypatch):
    aligned = objective_of(recipe(base, loss=NO_PICTURES | {"align": 0.5}))
    monkeypatch.setattr("arzoo.train.tokenizer.alignment_of", lambda *_: pytest.fail("built"))
    plain = objective_of(recipe(base, loss=NO_PICTURES))
    assert (list(plain.parts), list(aligned.parts)) == (["model"], ["model", "alignment"])
    start, other = plain.parts["model"].state_dict(), aligned.parts["model"].state_dict()
    assert all(torch.equal(start[name], other[name]) for name in start), "the head draws its weights last"
    gradients = []
    for objective in (plain, aligned):
        torch.manual_seed(0)
        _, terms = objective.loss("model", objective.parts, objective.batch(0, range(4)), 0)
        gradients.append(
            torch.autograd.grad(terms["flow"], objective.parts["model"].decoder.output.weight)[0]
        )
    assert torch.equal(*gradients)
    assert set(terms) == {"flow", "align"}


GRIDS = {
    "codes": "vq_4_micro",
    "residual codes": {"name": "vq_4_micro", "codebooks": 2},
    "any resolution": {"name": "longcat_8_micro", "image_size": 32},
}


@pytest.mark.parametrize("model", GRIDS.values(), ids=GRIDS)
def test_quantized_vectors_are_aligned(model):
    objective = objective_of(recipe("", model=model, loss=NO_PICTURES | {"l1": 1.0, "align": 2.0}))
    parts, batch = objective.parts, objective.batch(0, range(4))
    loss, terms = objective.loss("model", parts, batch, 0)
    loss.backward()
    weights = objective.criterion.config
    assert loss.item() == pytest.approx(
        sum(getattr(weights, name) * x.item() for name, x in terms.items()), rel=1e-4
    )
    assert weights.align == 2
    again, _ = objective.loss("alignment", parts, batch, 0)
    assert again.item() == pytest.approx(terms["align"].item())
    fresh = objective_of(recipe("", model=model, loss=NO_PICTURES | {"l1": 0.0, "align": 2.0}))
    alone, _ = fresh.loss("model", fresh.parts, batch, 0)
    alone.backward()
    assert any(p.grad.abs().sum() > 0 for p in fresh.parts["model"].encoder.parameters())


def test_targets_stand_in_the_order_of_tokens():
    """A square of 8 pixels changes the features around its own token most."""
    targets, x = AlignmentTargets((8, 8)), torch.zeros(1, 3, 32, 64)
    marked = x.clone()
    marked[..., 16:24, 40:48] = 1
    change = (targets(marked) - targets(x)).square().sum(-1)[0]
    assert len(change) == 4 * 8
    assert change.argmax() == 2 * 8 + 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": MODEL | {"align_after": 2}},
            "align_after=2 is no block of the decoder: it has blocks 0 to 1",
        ),
        ({"model": "kl_4_micro", "base": ""}, "places of still pictures, and kl has neither"),
    ],
)
def test_alignment_that_cannot_be(base, changes, message):
    with pytest.raises(ArzooError, match=message):
        objective_of(recipe(**{"base": base, "loss": NO_PICTURES | {"align": 0.5}} | changes))


def test_a_base_is_copied_and_never_changes(base, tmp_path):
    (tmp_path / "run").mkdir()
    engine = prepared(recipe(base), tmp_path / "run", Console(quiet=True), None)
    engine.fit()
    given = open_checkpoint(base, "tokenizer").load("tokenizer").state_dict()
    for tokenizer in (engine.raw["model"], engine.model):
        own = tokenizer.base.state_dict()
        assert own.keys() == given.keys()
        assert all(torch.equal(own[name], given[name]) for name in given)
        assert not any(parameter.requires_grad for parameter in tokenizer.base.parameters())
    moments = engine.optimizers["model"].state
    assert not any(parameter in moments for parameter in engine.raw["model"].base.parameters())
    assert engine.objective.lineage["base"]["name"] == base
    exported = open_checkpoint(str(tmp_path / "run" / "checkpoint"), "tokenizer").load("tokenizer")
    assert exported.base.config == open_checkpoint(base, "tokenizer").load("tokenizer").config


def test_a_run_goes_on_with_its_base_elsewhere_and_not_with_another(base, tmp_path):
    run(recipe(base), tmp_path / "run", max_steps=2)
    run(recipe(kl(tmp_path / "moved")), tmp_path / "run", max_steps=4)
    with pytest.raises(ArzooError, match=r"weights that have changed since.*base\.weights"):
        run(recipe(kl(tmp_path / "other", seed=6)), tmp_path / "run", max_steps=6)


def test_a_continued_run_is_the_run_that_was_never_stopped(base, tmp_path):
    def train(folder, end):
        run(recipe(base), folder, end, Console(quiet=True))

    whole, parts = toy.whole_and_in_parts(train, tmp_path, stop=3, steps=8)
    assert toy.same(whole, parts)


def test_a_base_that_is_missing_or_misplaced(base):
    with pytest.raises(
        ArzooError, match=r"flextok works on the latents of another.*set base.*base=kl_emoji64"
    ):
        objective_of(recipe(""))
    with pytest.raises(ArzooError, match=r"is a kl, which vq cannot work on. Leave base out"):
        objective_of(recipe(base, model="vq_4_micro", loss={}))
    with pytest.raises(ArzooError, match=r"base='kl_emoji64' acts on tokenizers only.*Leave it out"):
        load_recipe("nar_emoji64", {"base": "kl_emoji64"})


def test_initial_weights_bring_their_base(base, tmp_path):
    run(recipe(base), tmp_path / "first", max_steps=2)
    first = open_checkpoint(str(tmp_path / "first"), "tokenizer").load("tokenizer")
    start = objective_of(recipe("", init=str(tmp_path / "first"))).parts["model"]
    assert start.config == first.config, "the scale of the latents, too"
    assert all(
        torch.equal(a, b)
        for a, b in zip(start.state_dict().values(), first.state_dict().values(), strict=True)
    )
    assert start.borrowed == first.borrowed
    assert not any(parameter.requires_grad for parameter in start.base.parameters())
    other = kl(tmp_path / "other", seed=6)
    moved = objective_of(recipe(other, init=str(tmp_path / "first"))).parts["model"]
    given = open_checkpoint(other, "tokenizer").load("tokenizer").state_dict()
    assert all(torch.equal(value, given[name]) for name, value in moved.base.state_dict().items())
    assert torch.equal(moved.encoder.registers, first.encoder.registers)
    with pytest.raises(ArzooError, match=r"is a kl, the model a flextok"):
        objective_of(recipe("", init=base))


def test_groups_of_settings_of_a_model_change_only_what_is_said():
    preset = flextok_kl_small()
    small = load_recipe("ordered_emoji64", {"model": {"encoder": {"depth": 1}}})
    typed = load_recipe("ordered_emoji64", typed=["model.encoder={depth: 1}"])
    assert small == typed
    assert small.model.settings["encoder"] == preset.encoder.replace(depth=1)
    assert Recipe.from_dict(load_yaml(small.to_yaml())) == small, "what a run writes can be read"
    with pytest.raises(ArzooError, match="dept"):
        load_recipe("ordered_emoji64", {"model": {"encoder": {"dept": 1}}})
