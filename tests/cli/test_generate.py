"""`arzoo generate` with a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, picture, pixels, tiny_generator, tiny_models, tiny_tokenizer

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.drawing import kept as kept_part
from arzoo.cli.generate import Generate
from arzoo.cli.knobs import guidance, inside
from arzoo.cli.loading import place
from arzoo.cli.pictures import read_settings
from arzoo.core.condition import Cond
from arzoo.core.control import Progress
from arzoo.core.layout import Grid
from arzoo.generation.generator import Generator
from arzoo.generation.regions import NAMES, kept_pixels, kept_tokens


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    tiny_generator(folder / "lone" / "gen2", tiny_tokenizer(folder / "tok2", seed=1))
    return folder


def test_pictures_settings_and_record(capsys, models, tmp_path):
    out = tmp_path / "out"
    result = command(capsys, "generate", models / "gen", "--num", 3, "--seed", 4, "--out", out, "--json")
    assert result.status == 0, result.err
    files = sorted(path.name for path in out.iterdir())
    assert files == [
        "0000_animal-plain_seed4.png",
        "0001_animal-round_seed4.png",
        "0002_food-plain_seed4.png",
        "grid.png",
        "run.json",
    ]
    assert len(result.json["files"]) == 4
    settings = read_settings(str(out / files[1]))
    assert (settings["class"], settings["seed"], settings["index"]) == ("animal/round", 4, 1)
    record = json.loads((out / "run.json").read_text())
    assert record["files"].keys() == set(files) - {"run.json"}
    assert record["config"]["plan"] == "next_neighbor"
    assert record["command"].startswith("arzoo generate")


def test_pictures_do_not_depend_on_batch_or_count(capsys, models, tmp_path):
    options = ["generate", models / "gen", "--class", "1", "--guidance", "2"]
    command(capsys, *options, "--num", 4, "--batch", 4, "--out", tmp_path / "a")
    command(capsys, *options, "--num", 3, "--batch", 2, "--out", tmp_path / "b")
    for path in sorted((tmp_path / "b").glob("000*.png")):
        assert np.array_equal(pixels(path), pixels(tmp_path / "a" / path.name))


def test_repeating_a_picture(capsys, models, tmp_path):
    options = ["--num", 3, "--guidance", "1:3", "--top-k", 5, "--class", CLASSES[2], CLASSES[0]]
    command(capsys, "generate", models / "gen", *options, "--out", tmp_path / "a")
    path = sorted((tmp_path / "a").glob("0001*.png"))[0]
    result = command(capsys, "generate", "--like", path, "--out", tmp_path / "b", "--json")
    assert result.status == 0, result.err
    (again,) = (tmp_path / "b").glob("000*.png")
    assert np.array_equal(pixels(path), pixels(again))
    assert read_settings(str(again))["guidance"] == "1:3"
    command(capsys, "generate", "--like", path, "--class", "1", "--out", tmp_path / "c")
    (other,) = (tmp_path / "c").glob("000*.png")
    assert read_settings(str(other))["class"] == CLASSES[1]
    failing(command(capsys, "generate", "--like", tmp_path / "a" / "grid.png"), "single picture")
    failing(command(capsys, "generate", "--like", picture(tmp_path / "x.png")), "how it was made")
    failing(command(capsys, "generate", "--like", tmp_path / "none.png"), "there is no file")


@pytest.mark.parametrize("spelled", [["--seed", "0"], ["--seed=0"]])
def test_options_beside_like_count_even_with_their_default_values(capsys, models, tmp_path, spelled):
    options = ["--seed", 3, "--precision", "bf16", "--guidance", "1:3", "--guidance-schedule", "cosine"]
    command(capsys, "generate", models / "gen", "--num", 1, *options, "--out", tmp_path / "a")
    (path,) = (tmp_path / "a").glob("0000*.png")
    same = [*spelled, "--precision", "fp32", "--guidance-schedule", "linear"]
    result = command(capsys, "generate", "--like", path, *same, "--out", tmp_path / "b")
    assert result.status == 0, result.err
    (again,) = (tmp_path / "b").glob("0000*.png")
    made = read_settings(str(again))
    assert (made["seed"], made["precision"]) == (0, "fp32")
    assert (made["guidance"], made["guidance_schedule"]) == ("1:3", "linear")
    assert made["sample_seed"] == sample_seed(0, 0)
    count = command(capsys, "generate", "--like", path, "--num", 16, "--out", tmp_path / "c")
    assert count.status == 0, count.err
    assert len(list((tmp_path / "c").glob("00*.png"))) == 16


def test_repeating_with_other_weights_is_refused(capsys, tmp_path):
    tokenizer = tiny_tokenizer(tmp_path / "tok")
    tiny_generator(tmp_path / "gen", tokenizer)
    command(capsys, "generate", tmp_path / "gen", "--num", 1, "--out", tmp_path / "a")
    tiny_generator(tmp_path / "gen", tokenizer, seed=5)
    (path,) = (tmp_path / "a").glob("000*.png")
    failing(
        command(capsys, "generate", "--like", path, "--out", tmp_path / "b"),
        "was drawn by",
        "present one has",
    )


@pytest.mark.parametrize("plan", ["raster", "next_neighbor"])
def test_half_a_picture_is_completed_in_either_order(capsys, models, tmp_path, plan):
    checkpoint = open_checkpoint(models / "tok")
    torch.manual_seed(0)
    model = Generator.create(
        f"{'raster' if plan == 'raster' else 'nar'}_tiny", checkpoint.load("tokenizer"), plan, classes=CLASSES,
        tokenizer_name="tok", tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], width=32,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.save(tmp_path / "gen")
    source = picture(tmp_path / "photo.png", (20, 16))
    options = ["--init", source, "--keep", "top", "--num", 2, "--class", 1, "--tokenizer", models / "tok"]
    assert command(capsys, "generate", tmp_path / "gen", *options, "--out", tmp_path / "a").status == 0

    model = Generator.load(tmp_path / "gen", tokenizer=models / "tok")
    given = kept_part(Generate(num=2, init=str(source), keep="top"), model)
    kept, values = given.given.clone(), given.values.clone()
    seeds = [sample_seed(0, i) for i in range(2)]
    *_, last = model.stream(Cond(2, label=torch.tensor([1, 1])), seeds, given=given)
    canvas = last.run.tokens
    drawn = canvas.values
    assert kept.tolist() == [[True] * 8 + [False] * 8] * 2
    assert torch.equal(drawn[kept], values[kept])
    assert not torch.equal(drawn[0], drawn[1]), "the other half is drawn"
    files = sorted((tmp_path / "a").glob("000*.png"))
    assert np.array_equal(np.stack([pixels(file) for file in files]), model.decode(canvas).stills.numpy())


def test_a_completed_picture_is_repeated(capsys, models, tmp_path):
    source = picture(tmp_path / "photo.png", (20, 16))
    options = ["--init", source, "--keep", "top", "--num", 2, "--out", tmp_path / "a"]
    result = command(capsys, "generate", models / "gen", *options)
    assert result.status == 0, result.err
    assert "not seen" in result.err
    first = sorted((tmp_path / "a").glob("000*.png"))[0]
    assert read_settings(str(first))["keep"] == "top"
    again = command(capsys, "generate", "--like", first, "--out", tmp_path / "b")
    assert again.status == 0, again.err
    assert np.array_equal(pixels(first), pixels(next((tmp_path / "b").glob("000*.png"))))
    picture(source, (20, 16), seed=1)
    failing(command(capsys, "generate", "--like", first, "--out", tmp_path / "c"), "has changed")


def test_given_tokens_are_those_of_the_picture(models, tmp_path):
    model = Generator.load(models / "gen")
    source = picture(tmp_path / "photo.png")
    given = kept_part(Generate(model="x", num=2, init=str(source), keep="0,0,8,16"), model)
    assert given is not None
    assert given.known.view(2, 4, 4)[0].tolist() == [[True, True, False, False]] * 4
    assert model.generate([0, 1], given=given).stills.shape == (2, 16, 16, 3)


def test_a_picture_that_is_not_here(capsys, models, tmp_path):
    options = ["--init", "none.png", "--keep", "top", "--out", tmp_path / "out"]
    failing(command(capsys, "generate", models / "gen", *options), "none.png")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num", "0"], ["--num must be at least 1"]),
        (["--class", "animal/plane"], ["'animal/plane'", "'animal/plain'"]),
        (["--class", "3"], ["class 3 is out of range", "0 to 2"]),
        (["--guidance", "much"], ["--guidance 'much'", "1:4"]),
        (["--guidance", "nan"], ["--guidance 'nan'"]),
        (["--guidance", "2", "--guidance-interval", "0.5"], ["--guidance-interval"]),
        (["--temperature", "0"], ["--temperature 0", "--greedy"]),
        (["--top-p", "1.5"], ["--top-p 1.5"]),
        (["--top-k", "-1"], ["--top-k -1"]),
        (["--threads", "-1"], ["threads"]),
        (["--keep", "middle", "--init", "photo.png"], ["unknown region 'middle'", "x,y,w,h"]),
        (["--keep", "0,0,99,1", "--init", "photo.png"], ["0,0,99,1", "16 wide"]),
        (["--steps", "4"], ["--steps is for masked models"]),
        (["--prompt", "dog"], ["draws classes", "reads no text", "--class", "nar_emoji64_text"]),
        (["--batch", "-1"], ["--batch"]),
        (["--keep", "top"], ["--init FILE goes with --keep REGION"]),
        (["--class", "1", "--prompt", "dog"], ["give --class or --prompt"]),
        (["--no-such", "1"], ["--no-such"]),
    ],
)
def test_misuse_exits_as_an_unknown_option_does(capsys, models, tmp_path, options, words):
    arguments = ["generate", models / "gen", *options, "--out", tmp_path / "out"]
    failing(command(capsys, *arguments), *words, status=2)
    result = command(capsys, *arguments, "--json")
    assert (result.status, list(result.json)) == (2, ["error"])
    assert not (tmp_path / "out").exists()


def test_bad_models(capsys, models, tmp_path):
    failing(command(capsys, "generate", "no_such"), "unknown checkpoint 'no_such'", "arzoo models", status=2)
    failing(command(capsys, "generate", tmp_path / "model.pt"), "arzoo convert")
    failing(
        command(capsys, "generate", models / "tok", "--out", tmp_path / "x"),
        "is a tokenizer, a generator is needed",
        status=2,
    )
    failing(
        command(capsys, "generate", models / "lone" / "gen2", "--out", tmp_path / "x"),
        "the tokenizer 'tok2' of",
        "is not here",
    )


def test_damaged_and_other_tokenizers(capsys, tmp_path):
    generator = tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    weights = generator / "backbone" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    failing(command(capsys, "generate", generator, "--out", tmp_path / "out"), "damaged", "again")
    weights.write_bytes(whole)
    (tmp_path / "tok").rename(tmp_path / "old")
    tiny_tokenizer(tmp_path / "tok", seed=1)
    failing(
        command(capsys, "generate", generator, "--out", tmp_path / "out"), "was trained on tokenizer 'tok'"
    )
    options = ["--tokenizer", tmp_path / "old", "--num", 1, "--out", tmp_path / "out"]
    assert command(capsys, "generate", generator, *options).status == 0


def test_parts_that_do_not_fit_are_refused_before_drawing(capsys, models, tmp_path):
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), plan="raster")
    result = command(capsys, "generate", tmp_path / "gen", "--out", tmp_path / "out")
    failing(result, "plan 'raster' reads 1 axis", "has 2", "next_neighbor", "arzoo models --matrix")
    assert not (tmp_path / "out").exists()


def test_existing_folders(capsys, models, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    options = ["generate", models / "gen", "--num", 2, "--out", tmp_path]
    failing(command(capsys, *options), "not empty", "--overwrite")
    assert command(capsys, *options, "--overwrite").status == 0
    assert (
        command(capsys, "generate", models / "gen", "--num", 1, "--out", tmp_path, "--overwrite").status == 0
    )
    assert len(list(tmp_path.glob("000*.png"))) == 1
    assert (tmp_path / "notes.txt").exists()


def test_options_that_need_another_one_are_named(capsys, models, tmp_path):
    options = ["generate", models / "gen", "--num", 1, "--out", tmp_path / "a", "--overwrite"]
    for alone in (["--guidance-schedule", "cosine"], ["--guidance-schedule", "cosine", "--guidance", 3]):
        result = command(capsys, *options, *alone)
        assert result.status == 0, result.err
        assert "--guidance-schedule has no effect: it is how --guidance A:B goes from A to B" in result.err
    result = command(capsys, *options, "--guidance-schedule", "cosine", "--guidance", "1:3")
    assert (result.status, "no effect" in result.err) == (0, False)
    result = command(capsys, *options, "--head-schedule", "cosine")
    assert "--head-schedule has no effect: it is how --head-steps A:B goes from A to B" in result.err


@pytest.mark.parametrize("precision", ["bf16", "half", "int8"])
def test_low_precision(capsys, models, tmp_path, precision):
    options = ["generate", models / "gen", "--num", 1, "--precision", precision, "--greedy"]
    assert command(capsys, *options, "--out", tmp_path / "a").status == 0


def test_guidance_over_the_run():
    def at(step, steps=5):
        return Progress(step=step, steps=steps, done=step * 2, after=step * 2 + 2, total=steps * 2)

    assert guidance("3", "linear") == 3
    linear, cosine = guidance("1:3", "linear"), guidance("1:3", "cosine")
    assert [linear(at(k)) for k in range(5)] == [1, 1.5, 2, 2.5, 3]
    assert cosine(at(0)) == 1
    assert cosine(at(4)) == pytest.approx(3)
    assert cosine(at(1)) < linear(at(1))
    assert [inside(3.0, "0.2:0.6")(at(k)) for k in range(5)] == [1, 3, 3, 1, 1]
    assert [inside(linear, "0.2:0.6")(at(k)) for k in range(5)] == [1, 1.5, 2, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_regions(name):
    kept = kept_tokens(kept_pixels(name, 16, 16), Grid(1, 4, 4)).view(4, 4)
    opposite = {"top": "bottom", "left": "right", "border": "center"}
    if name in opposite:
        assert torch.equal(kept, ~kept_tokens(kept_pixels(opposite[name], 16, 16), Grid(1, 4, 4)).view(4, 4))
    assert int(kept.sum()) == {"border": 12, "center": 4}.get(name, 8)


@pytest.mark.parametrize("keep", ["middle", "1,2,3", "0,0,99,1", "0,0,3,3", "0,0,16,16"])
def test_impossible_regions(keep):
    with pytest.raises(ArzooError):
        kept_tokens(kept_pixels(keep, 16, 16), Grid(1, 4, 4))


def test_device_that_is_not_here_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(ArzooError, match="It has: cpu"):
        Generate(device="cuda:7", out=str(tmp_path / "x")).run([])


@pytest.mark.parametrize("precision", ["half", "int8"])
def test_packed_precisions_are_for_cpus(monkeypatch: pytest.MonkeyPatch, precision) -> None:
    monkeypatch.setattr("arzoo.base.runtime.choose_device", torch.device)
    assert place(Generate(precision=precision)) == torch.device("cpu")
    with pytest.raises(ArzooError, match=f"{precision} packs.*use fp32 or bf16"):
        place(Generate(precision=precision, device="cuda"))


def test_repeating_what_is_not_here_any_more_says_what_to_give(capsys, models, tmp_path, monkeypatch):
    """The record names model and picture as they were typed, in the folder of that day."""
    monkeypatch.chdir(models)
    picture(tmp_path / "photo.png")
    options = ("--init", tmp_path / "photo.png", "--keep", "top", "--num", 1, "--out", tmp_path / "a")
    done = command(capsys, "generate", "gen", *options)
    assert done.status == 0, done.err
    drawn = next((tmp_path / "a").glob("0*.png"))
    monkeypatch.chdir(tmp_path)
    again = ("generate", "--like", drawn, "--out", tmp_path / "b")
    failing(command(capsys, *again), str(drawn), "'gen'", "arzoo generate MODEL --like")
    (tmp_path / "photo.png").rename(tmp_path / "moved.png")
    failing(command(capsys, "generate", models / "gen", *again[1:]), "photo.png", "no such file", "--init")
    found = command(capsys, "generate", models / "gen", *again[1:], "--init", tmp_path / "moved.png")
    assert found.status == 0, found.err


def test_a_generator_without_its_tokenizer_says_which_option_names_it(capsys, models, tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "gen", tmp_path / "gen")
    result = command(capsys, "generate", tmp_path / "gen", "--out", tmp_path / "out")
    failing(result, "the tokenizer 'tok'", "--tokenizer")
