"""Pictures of other sizes than a model was made for: drawing, completing, saving, refusals, the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command import command, failing, tiny_tokenizer
from PIL import Image

from arzoo.base.errors import ArzooError, UsageError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.layout import Grid
from arzoo.generation.generator import Generator
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SMALL = {"width": 32, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of texts and residual codes, and its tokenizer."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("any")
    tokenizer = VQTokenizerConfig(
        image_size=16, widths=(8, 16, 16), encoder_blocks=1, decoder_blocks=1, latent=8, attention=False, vocab=16,
        code_channels=4, codebooks=2,
    ).build()  # fmt: skip
    save_parts(root / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    checkpoint = open_checkpoint(root / "tok")
    model = Generator.create(
        "longcat_tiny", checkpoint.load("tokenizer"), "newlines", classes=(), tokenizer_name="tok",
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], text="bytes", hidden=48, text_length=8, rows=8,
        inputs=80, head_options={"heads": 2}, **SMALL,
    )  # fmt: skip
    model.save(root / "model")
    return root


@pytest.fixture
def model(folder):
    return Generator.load(folder / "model", folder / "tok")


def test_a_model_without_places_draws_any_size(model):
    wide = model.with_size(8, 24)
    assert (wide.image_size, wide.spec.layout, len(wide.plan())) == ((8, 24), Grid(1, 2, 6), 12)
    assert (model.image_size, model.spec.layout) == ((16, 16), Grid(1, 4, 4)), "the model itself is as it was"
    drawn = wide.generate(["a", "b"], seed=1)
    assert drawn.stills.shape == (2, 8, 24, 3)
    assert [image.size for image in drawn.images] == [(24, 8)] * 2
    assert torch.equal(wide.generate("b", seeds=[drawn.seeds[1]]).stills, drawn.stills[1:])
    assert "24 x 8 pixels" in repr(wide)
    assert model.with_size(16, 16) is model


def test_pictures_of_that_size_are_encoded_and_completed(model):
    tall = model.with_size(24, 8)
    picture = Image.fromarray((np.random.default_rng(0).random((24, 8, 3)) * 255).astype(np.uint8))
    canvas = tall.encode(picture)
    assert canvas.values.shape == (1, 12, 2)
    mask = np.zeros((24, 8), bool)
    mask[12:] = True
    last = []
    drawn = tall.generate("a", init=picture, mask=mask, watch=lambda _, step: last.append(step.run.tokens))
    assert drawn.stills.shape == (1, 24, 8, 3)
    assert torch.equal(last[-1].values[:, :6], canvas.values[:, :6]), "three rows of two tokens are kept"
    with pytest.raises(ArzooError, match=r"must be \(B, 24, 8, 3\)"):
        tall.encode(np.zeros((1, 16, 16, 3), np.uint8))


def test_sizes_that_do_not_fit_are_refused(model, tmp_path):
    with pytest.raises(ArzooError, match=r"\(1, 18, 16\) pixels .* multiples, H of 4"):
        model.with_size(18, 16)
    with pytest.raises(ArzooError, match="feeds 8 learned transition inputs, backbone longcat has 7"):
        model.with_size(36, 4)
    checkpoint = open_checkpoint(tiny_tokenizer(tmp_path / "tok"))
    fixed = Generator.create(
        "raster_tiny", checkpoint.load("tokenizer"), "raster", classes=("a",), tokenizer_name="tok",
        tokenizer_hash="", hidden_width=24, **SMALL,
    )  # fmt: skip
    with pytest.raises(ArzooError, match="was made for"):
        fixed.with_size(16, 32)
    ordered = Generator.load("ar_ordered_emoji64")
    with pytest.raises(UsageError, match="of no other size"):
        ordered.with_size(32, 32)


def test_on_the_command_line(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = ["generate", str(folder / "model"), "--prompt", "heart", "--num", "2"]
    draw += ["--tokenizer", str(folder / "tok")]
    result = command(capsys, *draw, "--size", "24x8", "--out", "wide")
    assert result.status == 0, result.err
    (first, _) = sorted(tmp_path.glob("wide/0*.png"))
    assert Image.open(first).size == (24, 8)
    repeated = command(capsys, "generate", "--like", str(first), "--out", "again", *draw[-2:])
    assert repeated.status == 0, repeated.err
    (copied,) = tmp_path.glob("again/0*.png")
    assert np.array_equal(np.asarray(Image.open(copied)), np.asarray(Image.open(first)))
    for size, message in (
        ("24", "no width and height"),
        ("0x8", "no width and height"),
        ("24x9", "multiples, H of 4"),
    ):
        result = command(capsys, *draw, "--size", size, "--out", "none")
        failing(result, message, status=2)
