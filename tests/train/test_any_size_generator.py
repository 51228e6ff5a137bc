"""Codes of unlike grids, and generators that train on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import command, failing, picture, tiny_tokenizer
from micro_batches import loss_of

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.clips import as_clips
from arzoo.data import load
from arzoo.data.codes import Codes
from arzoo.data.encoding import encode_split
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.tokenizers.longcat.presets import longcat_8_micro
from arzoo.train.any_size_generator import AnySizeGeneratorObjective
from arzoo.train.conditions import conditions
from arzoo.train.settings import GeneratorLoss

FILES = [(40, 16), (24, 24), (16, 40), (80, 16)]
SMALL = ("width=48", "depth=1", "heads=2", "hidden=64", "token_dropout=0.2", "dropout=0.2")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder of captioned pictures of four shapes, and a tokenizer."""
    work = tmp_path_factory.mktemp("work")
    (work / "own").mkdir()
    for seed in range(24):
        picture(work / "own" / f"{seed:02}.png", FILES[seed % 4], seed)
        (work / "own" / f"{seed:02}.txt").write_text(f"thing {seed}")
    torch.manual_seed(0)
    tokenizer = longcat_8_micro().build()
    save_parts(work / "tok", "tokenizer", {"tokenizer": tokenizer}, bits=16, spec=tokenizer.spec.to_dict())
    return work


@pytest.fixture(scope="module")
def tokenizer(work):
    return open_checkpoint(work / "tok").load("tokenizer")


@pytest.fixture(scope="module")
def data(work, tokenizer):
    return load(str(work / "own"), sizes=tokenizer.sizes)


@pytest.fixture(scope="module")
def codes(data, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    views = {"train": Views("augment", 2), "validation": Views()}
    return {
        name: encode_split(folder / name, tokenizer, "hash", data.split(name), views[name]) for name in views
    }


def test_each_picture_has_the_codes_of_its_own_grid(codes, data, tokenizer):
    train, pictures = codes["train"], data.split("train")
    assert train.grids.tolist() == (pictures.sizes // 8).tolist()
    for view in range(3):
        of_view = {}
        for places, x in Views("augment", 2).parts(pictures, view, 0):
            of_view |= dict(zip(places.tolist(), x.split(1), strict=True))
        for row, x in of_view.items():
            index = torch.tensor([row])
            assert torch.equal(train.rows(torch.tensor([view]), index), tokenizer.encode(as_clips(x)).values)
    assert train.token_counts().tolist() == (pictures.sizes // 8).prod(1).tolist()
    whole = Codes.load(train.folder, thorough=True)
    assert torch.equal(whole.grids, train.grids)
    assert torch.equal(whole.rows(index * 0 + 2, index), train.rows(index * 0 + 2, index))
    assert train.tokens(index * 0, index).layout.shape == (1, *train.grids[row].tolist())


def test_codes_of_unlike_grids_are_no_tensor(codes):
    train = codes["train"]
    groups = train.by_grid(torch.arange(len(train.labels)))
    assert len(groups) == 4
    for group in groups:
        assert train.rows(torch.zeros_like(group), group).shape[:2] == (
            len(group),
            train.layout_of(group).size,
        )
    with pytest.raises(ArzooError, match=r"tokens of 4 grids cannot be one tensor.*by_grid"):
        train.rows(torch.zeros(len(train.labels)).long(), torch.arange(len(train.labels)))


def objective(codes, data, tokenizer, plan="newlines", **settings):
    torch.manual_seed(0)
    model = Generator.create(
        "longcat_tiny", tokenizer, plan, text="bytes", classes=(), tokenizer_name="tok", tokenizer_hash="hash",
        stage_heads=[("depth", {"layers": 1})],
        **{name: float(value) if "." in value else int(value) for name, value in (s.split("=") for s in SMALL)},
    )  # fmt: skip
    known = [conditions(data.split(split), model.text, 0.0, 0.0) for split in codes]
    train, validation = codes.values()
    return AnySizeGeneratorObjective(model, train, validation, GeneratorLoss(**settings), 0.0, 0, known)


@pytest.mark.parametrize("division", [2, 8])
def test_tokens_count_the_same_however_samples_are_divided(codes, data, tokenizer, division):
    """With 8 parts every sample is alone; dropout and noise of tokens follow the samples, too."""
    task, numbers = objective(codes, data, tokenizer, token_noise=0.1), torch.arange(8)
    assert len(task.batch(0, range(8)).places) > 1
    whole, gradients = loss_of(task, numbers, 1)
    parts, of_parts = loss_of(task, numbers, division)
    assert whole == pytest.approx(parts, abs=2e-5)
    for gradient, other in zip(gradients, of_parts, strict=True):
        torch.testing.assert_close(gradient, other, atol=2e-5, rtol=1e-3)


@torch.no_grad()
def test_the_network_is_told_the_size_of_each_picture(codes, data, tokenizer):
    """The loss of a picture is that of a generator made for its size."""
    task = objective(codes, data, tokenizer)
    model = task.parts["model"].eval()
    batch = task.batch(0, range(8))
    losses = model(batch).split([e.targets.shape[0] * e.targets.shape[1] for e in batch.examples])
    for loss, example in zip(losses, batch.examples, strict=True):
        grid = example.plan.layout
        alone = task.model.with_size(grid.h * 8, grid.w * 8)
        assert alone.plan().layout == grid
        expected = type(model)(alone.backbone, alone.heads, alone.plan()).eval()(example)
        torch.testing.assert_close(loss, expected.flatten(), atol=1e-6, rtol=0)
    figures = task.validate(model)
    assert {"validation_loss", "train_loss"} <= figures.keys()
    assert "on 4 grids" in task.summary()["tokens per picture"]


def test_orders_that_are_refused(codes, data, tokenizer):
    with pytest.raises(ArzooError, match=r"random_orders=\(10, 20\).*newlines or raster.*sizes=square"):
        objective(codes, data, tokenizer, plan="raster", random_orders=(10, 20))


def test_the_commands(work, capsys, monkeypatch, data):
    monkeypatch.chdir(work)
    monkeypatch.setenv("ARZOO_CACHE", str(work / "cache"))
    done = command(
        capsys, "tokenize", "own", "--tokenizer", "tok", "--sizes", "keep", "--out", "made", "--json"
    )
    assert done.status == 0, done.err
    assert done.json["train"]["grids"] == 4
    assert done.json["train"]["tokens"]["max"] == 20
    dry = command(
        capsys,
        "tokenize",
        "own",
        "--tokenizer",
        "tok",
        "--sizes",
        "keep",
        "--out",
        "dry",
        "--dry-run",
        "--json",
    )
    assert dry.json["tokens_per_picture"]["max"] == 20
    model = [f"--model.{setting.replace('=', ' ').replace('_', '-')}".split() for setting in SMALL]
    options = (
        "longcat_emoji64", "--data", "own", "--sizes", "keep", "--tokenizer", "tok", "--variants", "1", "--run.batch",
        "6", "--run.steps", "3", "--heads.0.layers", "1", *(text for pair in model for text in pair),
    )  # fmt: skip
    rehearsal = command(capsys, "train", *options, "--out", "gen", "--dry-run", "--json")
    assert rehearsal.status == 0, rehearsal.err
    done = command(capsys, "train", *options, "--out", "gen", "--json")
    assert done.status == 0, done.err
    assert "tokens per picture: 9 to 20 on 4 grids" in done.err
    drawn = command(
        capsys,
        "generate",
        "gen",
        "--tokenizer",
        "tok",
        "--prompt",
        "thing 3",
        "--size",
        "80x16",
        "--num",
        "1",
        "--out",
        "out",
        "--json",
    )
    assert drawn.status == 0, drawn.err
    mixed = command(capsys, "train", *options, "--generator.describe", "0.3", "--out", "both")
    failing(mixed, "generator.describe cannot be trained on pictures of unlike sizes", status=2)


def test_other_tokenizers_are_refused(work, capsys, monkeypatch):
    monkeypatch.chdir(work)
    tiny_tokenizer(Path("square"))
    done = command(capsys, "tokenize", "own", "--tokenizer", "square", "--sizes", "keep", "--out", "no")
    failing(done, "sizes=keep", "one size, 16 x 16", status=2)
