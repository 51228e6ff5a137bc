"""`arzoo generate --plan`, and `Generator.with_plan`: another plan than a model was trained with."""

import pytest
import torch
from command import CLASSES, command, failing, pixels, tiny_tokenizer

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.pictures import read_settings
from arzoo.generation.generator import Generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A raster model with random weights over 4 x 4 codes."""
    where = tmp_path_factory.mktemp("models")
    tokenizer = open_checkpoint(tiny_tokenizer(where / "tok"))
    torch.manual_seed(0)
    model = Generator.create(
        "raster_tiny", tokenizer.load("tokenizer"), "raster", classes=CLASSES, width=32, depth=1, heads=2,
        tokenizer_name="tok", tokenizer_hash=tokenizer.parts["tokenizer"]["weights"],
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.save(where / "gen")
    return where


def drawing(capsys, folder, out, *options):
    return command(capsys, "generate", folder / "gen", "--num", 3, "--out", out, *options)


def test_a_raster_model_draws_several_rows_at_once(capsys, folder, tmp_path):
    plain, rows, fewer = (
        drawing(capsys, folder, tmp_path / str(i), "--json", *options).json
        for i, options in enumerate(((), ("--plan", "zipar:distance=4"), ("--plan=zipar:distance=1",)))
    )
    for first, same, other in zip(plain["files"], rows["files"], fewer["files"], strict=True):
        assert (pixels(first) == pixels(same)).all(), (
            "rows of four tokens are complete before the next begins"
        )
        assert not (pixels(first) == pixels(other)).all()
    assert [document["passes"] for document in (plain, rows, fewer)] == [16, 16, 7]
    assert fewer["plan_options"] == {"distance": 1}
    assert (fewer["config"]["plan"], plain["config"]["plan"]) == ("zipar", "raster")
    assert read_settings(fewer["files"][1])["order"] == "zipar:distance=1"
    said = drawing(capsys, folder, tmp_path / "dry", "--plan", "zipar:distance=1", "--dry-run")
    assert said.err.count("trained with plan raster; with zipar its pictures may be worse") == 1
    for same_order in ("raster", "zipar:distance=4"):
        said = drawing(capsys, folder, tmp_path / "dry", "--plan", same_order, "--dry-run")
        assert "trained with" not in said.err
    again = ("generate", folder / "gen", "--like", fewer["files"][1], "--json", "--out")
    assert (
        pixels(command(capsys, *again, tmp_path / "again").json["files"][0]) == pixels(fewer["files"][1])
    ).all()
    replaced = command(capsys, *again, tmp_path / "replaced", "--plan", "raster").json
    assert (pixels(replaced["files"][0]) == pixels(plain["files"][1])).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ziper", ["unknown plan 'ziper'", "zipar"]),
        ("zipar:distance", ["--plan 'distance' is not KEY=VALUE", "zipar:distance=4"]),
        ("zipar:=4", ["--plan '=4' is not KEY=VALUE"]),
        ("zipar:distance=", ["distance of plan zipar"]),
        ("zipar:distance=4,distance=1", ["distance is set twice, to '4' and to '1'"]),
        ("zipar:far=4", ["unknown argument of plan 'zipar' 'far'", "distance"]),
        ("zipar:distance=0", ["at least 1 token of the one above"]),
        ("zipar:distance=2.5", ["distance of plan zipar"]),
        ("next_neighbor", ["reads 2 axes", "zipar"]),
        ("next_block:size=5", ["block size 5 must divide the 16 positions"]),
        ("masked", ["reads shifted"]),
    ],
)
def test_plans_that_cannot_be_are_refused(capsys, folder, tmp_path, text, words):
    failing(drawing(capsys, folder, tmp_path / "out", "--plan", text), *words, status=2)
    assert not (tmp_path / "out").exists()


def test_another_plan_leaves_the_model_as_it_is(folder):
    model = Generator.load(folder / "gen")
    rows = model.with_plan("zipar", distance=2)
    assert (len(rows.plan()), len(model.plan()), rows.with_plan(distance=1).plan_options) == (
        10,
        16,
        {"distance": 1},
    )
    assert rows.with_plan("zipar").plan_options == {"distance": 2}, "the same plan keeps its options"
    assert rows.with_plan("raster").plan_options == {}
    assert torch.equal(
        model.with_plan("zipar", distance=4).generate(classes=[0, 1]), model.generate(classes=[0, 1])
    )
    with pytest.raises(UnknownName, match="zipar"):
        model.with_plan("ziper")
    with pytest.raises(ArzooError, match="arzoo models --matrix"):
        model.with_plan("next_neighbor")
