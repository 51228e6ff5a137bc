"""Fine-tuning keeps a trained codebook, and says which codes were replaced when it was asked to replace some."""

from __future__ import annotations

import io

import pytest
import torch
from command import tiny_generator, tiny_tokenizer
from rich.console import Console

import arzoo.data
from arzoo.base.errors import ArzooError, UsageError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.data.base import ImageSet
from arzoo.generation.generator import Generator
from arzoo.tokenizers.longcat.presets import longcat_8_micro
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.train.build import run
from arzoo.train.objectives import objective_of
from arzoo.train.recipe import Recipe, load_recipe
from arzoo.train.tokenizer import TokenizerObjective

SIZES = {
    "image_size": 32, "widths": [32, 32, 32], "decoder_widths": [], "latent": 32, "vocab": 16, "code_channels": 4,
    "unshuffle": 1,
}  # fmt: skip
GENERATOR = {"name": "nar_tiny", "width": 32, "depth": 1, "heads": 2}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A tokenizer whose pictures use few of its codes."""
    data = ImageSet(
        name="two",
        images=torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 32, 32, 3) * 20,
        labels=torch.arange(12) % 2,
        classes=("even", "odd"),
        held_out=torch.arange(12) >= 10,
    )
    monkeypatch.setattr(arzoo.data, "load", lambda *_: data)
    monkeypatch.setattr(TokenizerObjective, "preview", lambda *_: None)
    return tiny_tokenizer(tmp_path / "tok")


def recipe(init, **changes):
    pace = {"steps": 6, "batch": 4, "log_every": 1, "preview_every": 10, "save_every": 10, "threads": 0}
    care = {"seed_at": 1, "restart_every": 2, **changes.pop("codebook", {})}
    model = {"name": "vq_4_micro", **SIZES, **changes.pop("model", {})}
    settings = {"model": model, "init": str(init), "codebook": care, "limit": 0, "data": "two", "run": pace}
    return load_recipe(
        "smoke", {**settings, "loss": {"adversarial": 0.0}, "optim": {"warmup": 1, "lr": 1e-4}, **changes}
    )


def after(recipe, out):
    """Codes after a training, and what it said."""
    told = io.StringIO()
    run(recipe, out, None, Console(file=told, width=200))
    quantizer = open_checkpoint(out, "tokenizer").load("tokenizer").quantizer
    return quantizer.codebooks if isinstance(quantizer, ResidualVQ) else quantizer.table, told.getvalue()


def nearness(before, now):
    return torch.nn.functional.cosine_similarity(before, now).min()


def test_codes_of_a_checkpoint_are_kept(trained, tmp_path):
    before = open_checkpoint(trained, "tokenizer").load("tokenizer").quantizer.table
    now, told = after(recipe(trained), tmp_path / "kept")
    assert nearness(before, now) > 0.99
    assert f"the 16 codes of {trained} are kept" in told
    assert "replaced by encoder outputs" not in told


@pytest.mark.parametrize(("asked", "step"), [("restart", "step 3"), ("reseed", "step 2")])
def test_codes_are_replaced_when_asked_and_named(trained, tmp_path, asked, step):
    before = open_checkpoint(trained, "tokenizer").load("tokenizer").quantizer.table
    now, told = after(recipe(trained, codebook={"trained": asked}), tmp_path / asked)
    assert nearness(before, now) < 0.9
    (line,) = [line for line in told.splitlines() if line.startswith(f"after {step}:")]
    assert f"of 16 codes of {trained} were replaced by encoder outputs, as" in line
    assert ("did not use them" in line) == (asked == "restart")
    assert f"codebook.trained={asked}" in line


def test_the_use_of_codes_in_an_earlier_training_does_not_count(trained, tmp_path):
    run(recipe(trained), tmp_path / "first", 2, Console(quiet=True))
    assert (open_checkpoint(tmp_path / "first").load("tokenizer").quantizer.recent != EMPTY).any()
    for asked in ("keep", "restart", "reseed"):
        objective = objective_of(recipe(tmp_path / "first", codebook={"trained": asked}))
        assert (objective.codebook.recent == EMPTY).all()


def test_codes_that_do_not_fit_are_fresh_and_seeded(trained, tmp_path):
    with pytest.warns(UserWarning, match="those of quantizer.embedding"):
        objective = objective_of(recipe(trained, model={"vocab": 8}))
    assert objective.trained_codes == ""
    assert objective.care.due(1, bool(objective.trained_codes)) == "seed"
    assert "codebook" not in objective.summary()
    assert (objective.codebook.recent == EMPTY).all(), "the record is of other codes"


def test_a_generator_starts_from_one_of_the_codes_that_were_kept(trained, tmp_path):
    first = tiny_generator(tmp_path / "gen", trained)
    settings = {"data": "two", "init": str(first), "variants": 0}
    for asked in ("keep", "reseed"):
        out = tmp_path / asked
        run(recipe(trained, codebook={"trained": asked}), out, 2, Console(quiet=True))
        small = load_recipe("nar_emoji64", {**settings, "tokenizer": str(out), "model": GENERATOR})
        if asked == "keep":
            backbone = objective_of(small).parts["model"].backbone
            given = open_checkpoint(first, "generator").load("backbone").state_dict()
            name = next(name for name in given if "blocks" in name and given[name].dim() == 2)
            assert torch.equal(backbone.state_dict()[name], given[name])
        else:
            with pytest.raises(ArzooError, match="was trained on tokenizer"):
                objective_of(small)


def test_a_decoder_alone_is_trained_and_generators_of_the_codes_draw_with_it(trained, tmp_path):
    run(recipe(trained), tmp_path / "base", 2, Console(quiet=True))
    run(recipe(tmp_path / "base"), tmp_path / "kept", 2, Console(quiet=True))
    _, told = after(recipe(tmp_path / "base", codebook={"trained": "freeze"}), tmp_path / "finer")
    assert "the encoder are frozen, only the decoder is trained" in told
    before, finer = (open_checkpoint(tmp_path / name).load("tokenizer") for name in ("base", "finer"))
    state = finer.state_dict()
    changed = {n.split(".")[0] for n, value in before.named_parameters() if not torch.equal(value, state[n])}
    assert changed == {"decoder", "from_code"}
    settings = {
        "tokenizer": str(tmp_path / "base"),
        "model": GENERATOR,
        "data": "two",
        "init": "",
        "variants": 0,
    }
    run(load_recipe("nar_emoji64", settings), tmp_path / "gen", 1, Console(quiet=True))
    one, two = (
        Generator.load(tmp_path / "gen", tokenizer=tmp_path / name).generate(classes=[0], seed=1).tensor
        for name in ("base", "finer")
    )
    assert not torch.equal(one, two)
    with pytest.raises(ArzooError, match="was trained on tokenizer"):
        Generator.load(tmp_path / "gen", tokenizer=tmp_path / "kept")


def test_a_decoder_of_fresh_codes_cannot_be_trained_alone(trained):
    with pytest.raises(UsageError, match="the codes are fresh"):
        objective_of(recipe("", codebook={"trained": "freeze"}))


@pytest.mark.parametrize("asked", ["freeze", "keep", "restart"])
def test_codes_that_are_running_averages_are_frozen_kept_or_replaced(trained, tmp_path, asked):
    torch.manual_seed(0)
    before = longcat_8_micro().replace(image_size=32).build().eval()
    save_parts(tmp_path / "any", "tokenizer", {"tokenizer": before}, spec=before.spec.to_dict())
    model = {"name": "longcat_8_micro", "image_size": 32}
    settings = recipe(tmp_path / "any", codebook={"trained": asked}).to_dict() | {"model": model}
    table, told = after(Recipe.from_dict(settings), tmp_path / "finer")
    moved = (table - before.quantizer.codebooks).abs().amax(-1) > 5e-3  # checkpoints round to 16 bits
    if asked == "freeze":
        assert not moved.any(), "frozen"
    else:
        assert moved.any(), "averages follow what they quantize"
    assert (f"of 128 codes of {tmp_path / 'any'} were replaced" in told) == (asked == "restart")
