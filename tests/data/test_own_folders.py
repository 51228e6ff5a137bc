"""Folders of own pictures: what is cropped is said, edges are not white, and odd folders are read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import command, failing, picture, ten_pictures
from PIL import Image

from arzoo.base import registry
from arzoo.data.augmentation import Augment
from arzoo.data.folder import image_folder
from arzoo.data.folder_sizes import cropping, fitting_side, folder_sizes
from arzoo.data.transforms import augment
from arzoo.data.views import Views
from arzoo.train.recipe import load_recipe
from arzoo.train.sizing import fitted


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, size=(16, 16), seed=0):
    """A picture in a folder that may be new."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture(Path(path), size, seed)


def colours(channels):
    """Black pictures, moved and made smaller."""
    images = torch.full((50, 16, 16, channels), 255, dtype=torch.uint8)
    images[..., :3] = 0
    policy = Augment(shift=0.2, scale=(0.5, 0.5), resize=1.0, mirror=0.0)
    return augment(images, torch.zeros(50, dtype=torch.bool), torch.rand(50, 9), policy)


def test_pictures_without_opacity_are_not_laid_on_white():
    assert colours(3).max() == -1
    assert colours(4).max() == 1, "drawings with opacity are"


def test_codes_of_views_on_white_are_not_taken_for_those_of_edges():
    opaque, plain = ten_pictures(), Views("augment", 2)
    clear = torch.cat([opaque.images, opaque.images[..., :1]], -1)
    keys = {views.key(opaque) for views in (plain, Views("augment", 0), Views("flip"))}
    assert len(keys) == 3
    drawings = type(opaque)("ten", clear, opaque.labels, opaque.classes, opaque.held_out)
    assert plain.key(drawings) == f"augment-{Augment().hash()}", "as before, so that their caches still count"


def test_what_is_cropped_is_said(work):
    sizes = {"wide.png": (40, 20), "tall.png": (10, 20), "even.png": (30, 30)}
    for name, size in sizes.items():
        write(f"own/some/{name}", size)
    data = image_folder(Path("own"), 16)
    assert data.cropping == (
        "the middle square of each is taken, which leaves out 33% of them, and at most 50% (some/tall.png)"
    )
    assert data.split("train").cropping == data.cropping
    assert cropping(["a"], [(20, 20)]) == ""


@pytest.mark.parametrize(
    ("count", "sizes", "side"),
    [
        (100, [(32, 200)] * 3, 32),
        (100, [(48, 64)] * 3, 64),
        (100, [(3000, 4000)] * 3, 64),
        (5000, [(3000, 4000)] * 3, 128),
        (5000, [(100, 127)] * 3, 64),
        (0, [], 64),
    ],
)
def test_the_side_follows_sizes_and_number(count, sizes, side):
    assert fitting_side(count, sizes) == side


@pytest.fixture
def own(work):
    """Two classes of ten pictures of 40 x 40, of which one is damaged."""
    for number in range(20):
        write(f"own/{'bc'[number % 2]}/{number}.png", (40, 40), number)
    Path("own/b/0.png").write_bytes(b"junk")
    return work


def test_a_recipe_leaves_side_and_steps_to_the_data(own, capsys):
    recipe = load_recipe("own_tokenizer", {"data": "own"})
    chosen = fitted(recipe)
    assert (chosen.model.settings["image_size"], chosen.run.steps) == (32, 45)
    assert capsys.readouterr().err == "chosen for 20 pictures: model.image_size=32, run.steps=45\n"
    assert fitted(chosen) is chosen
    more = load_recipe("own_tokenizer", {"data": "own", "run": {"visits": 400}})
    assert fitted(more).run.steps == 500
    given = load_recipe("own_tokenizer", typed=["data=own", "run.steps=7", "model.image_size=16"])
    assert fitted(given) is given
    generator = load_recipe("own_generator", {"data": "own", "tokenizer": "vq_emoji64"})
    assert fitted(generator).run.steps == 180
    assert folder_sizes(Path("own")) == (20, [(40, 40)] * 19)


def test_own_recipes_need_a_folder(work, capsys):
    for name in ("own_tokenizer", "own_generator"):
        failing(command(capsys, "train", name), "your own pictures", "--data FOLDER", status=2)
        given = command(capsys, "train", name, "--run.steps", "3", "model.image_size=32")
        assert given.status, "not the working folder"
    failing(command(capsys, "train", "own_tokenizer", "--data", "none"), "none", "folder", status=2)


def test_own_recipes_neither_mirror_nor_leave_white():
    for name in ("own_tokenizer", "own_generator"):
        recipe = load_recipe(name)
        assert recipe.augment.mirror == recipe.augment.background == 0
        assert recipe.augment == load_recipe("own_tokenizer").augment
        assert str(recipe.augment) == "moved by up to 3 %, 50 % resized to 95 to 105 %"


def test_show_draws_what_a_model_will_see(own, capsys):
    facts = command(capsys, "data", "show", "own", "--out", "seen.png", "--json").json
    assert facts["size"] == [32, 32]
    assert facts["cropped"] == "no, all are square"
    assert facts["variations"] == "moved by up to 3 %, 50 % resized to 95 to 105 % (own_tokenizer)"
    with Image.open("seen.png") as sheet:
        assert sheet.size == (8 * (96 + 2) + 2, 2 * (96 + 16 + 2) + 2), "enlarged, with classes"
    facts = command(capsys, "data", "show", "own", "--recipe", "vq_emoji64", "--size", 64, "--json").json
    assert facts["size"] == [64, 64]
    assert "50 % mirrored" in facts["variations"]


def test_names_with_spaces_and_of_other_alphabets(work, capsys):
    names = ["моя кошка", "日本 語", "a b", "été 'x'"]
    for number, name in enumerate(names):
        for copy in range(3):
            write(f"own pictures/{name}/снимок {copy}.png", seed=3 * number + copy)
    Path("own pictures", "captions.json").write_text(
        json.dumps({"a b/снимок 0.png": "один"}), encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="11 of 12 pictures have no caption, the first: "):
        facts = command(capsys, "data", "show", "own pictures", "--out", "a b.png", "--json").json
    assert facts["classes"] == dict.fromkeys(sorted(names), 3)
    assert "11 of 12 pictures have no caption" in " ".join(facts["remarks"])


def test_two_thousand_classes(work, capsys):
    for number in range(2000):
        Path("own", f"class {number}").mkdir(parents=True)
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(f"own/class {number}/0.png", compress_level=0)
    facts = command(capsys, "data", "show", "own", "--out", "seen.png", "--json").json
    assert len(facts["classes"]) == 2000
    with Image.open("seen.png") as sheet:
        assert sheet.size[1] == 32 * (96 + 16 + 2) + 2, "256 pictures at most"


def test_one_class_and_one_picture(work, capsys):
    write("own/only.png")
    facts = command(capsys, "data", "show", "own", "--json").json
    assert (facts["classes"], facts["train"], facts["validation"]) == ({"own": 1}, 1, 0)
    failing(
        command(capsys, "train", "own_tokenizer", "--data", "own"), "1 picture for training", "at least ten"
    )


def test_a_folder_in_a_place_that_cannot_be_written(work, capsys, monkeypatch):
    write("own/a/0.png")
    link = Path("link")
    link.symlink_to("own/a")
    assert command(capsys, "data", "show", "link", "--json").json["classes"] == {"link": 1}

    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied", "own")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert command(capsys, "data", "show", "own").status == 0, "nothing is written beside own pictures"
    failing(command(capsys, "data", "show", "own", "--out", "new/seen.png"), "Permission denied")


def test_registered_data_have_no_other_side(monkeypatch, capsys):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    failing(command(capsys, "data", "show", "ten", "--size", 8), "16 x 16, 8 x 8 are needed")
