"""Data sets that keep the shapes of their pictures: sizes, margins, views, sheets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import command, failing, picture, ten_pictures
from PIL import Image

import arzoo.data
from arzoo.base import registry
from arzoo.base.errors import ArzooError, UsageError
from arzoo.core.sizes import Sizes
from arzoo.data.any_size import AnySizeSet, same_rows, without_margins
from arzoo.data.base import ImageSet
from arzoo.data.reading import read_resized, read_rgb
from arzoo.data.transforms import to_model
from arzoo.data.views import Views
from arzoo.train.recipe import load_recipe
from arzoo.train.sizing import allowed_sizes

SIZES = Sizes(8, 64, 4096)
FILES = {"a/wide.png": (40, 16), "a/tall.png": (16, 40), "a/same.png": (40, 16), "b/odd.png": (37, 22)}
"""(W, H) of the files of a folder; the last one is resized."""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, (name, size) in enumerate(FILES.items()):
        Path("own", name).parent.mkdir(parents=True, exist_ok=True)
        picture(Path("own", name), size, seed)
    return tmp_path


def drawings(boxes, side=64) -> ImageSet:
    """Drawings that are opaque in boxes (top, left, bottom, right)."""
    images = torch.zeros(len(boxes), side, side, 4, dtype=torch.uint8)
    for number, (top, left, bottom, right) in enumerate(boxes):
        images[number, top:bottom, left:right] = 50 * number + torch.tensor([1, 2, 3, 200])
    count = len(boxes)
    return ImageSet("drawn", images, torch.zeros(count).long(), ("one",), torch.arange(count) == 0)


def test_a_folder_keeps_the_shapes_of_its_pictures(work):
    data = arzoo.data.load("own", sizes=SIZES)
    assert isinstance(data, AnySizeSet)
    by_name = dict(zip(data.files, data.sizes.tolist(), strict=True))
    assert by_name == {
        "a/same.png": [16, 40],
        "a/tall.png": [40, 16],
        "a/wide.png": [16, 40],
        "b/odd.png": [24, 40],
    }
    assert data.resolution == "40 x 16 to 40 x 24, 3 sizes"
    assert (data.least_size, data.sides, data.cropping, data.frames) == ((16, 16), (16, 40), "", 1)
    for row, name in enumerate(data.files[:3]):
        assert torch.equal(
            data.pixels(torch.tensor([row]))[0], torch.from_numpy(np.array(read_rgb(Path("own", name))))
        )
    resized = read_rgb(Path("own/b/odd.png")).resize((40, 24), Image.Resampling.BICUBIC)
    assert torch.equal(data.pixels(torch.tensor([3]))[0], torch.from_numpy(np.array(resized)))


def test_pictures_of_one_size_are_a_batch_and_others_are_not(work):
    data = arzoo.data.load("own", sizes=SIZES)
    groups = data.by_size(torch.tensor([3, 0, 1, 2]))
    assert [group.tolist() for group in groups] == [[1, 3], [0], [2]]
    assert data.pixels(torch.tensor([2, 0])).shape == (2, 16, 40, 3)
    assert torch.equal(data.pixels(torch.tensor([2, 0]))[0], data.pixels(slice(2, 3))[0])
    with pytest.raises(ArzooError, match=r"unlike sizes cannot be one tensor.*by_size"):
        data.pixels(slice(0, 2))
    with pytest.raises(ArzooError, match=r"pictures of own have unlike sizes.*sizes=square"):
        data.size  # noqa: B018
    assert data.select(torch.tensor([0, 2])).size == (16, 40)
    some = data.select(torch.tensor([3, 1]))
    assert some.sizes.tolist() == [[24, 40], [40, 16]]
    assert torch.equal(some.pixels(slice(1, 2)), data.pixels(slice(1, 2)))
    assert len(data.split("train")) + len(data.split("validation")) == 4
    assert len(data.select(torch.zeros(0, dtype=torch.long))) == 0


def test_the_hash_covers_the_sizes(work):
    data = arzoo.data.load("own", sizes=SIZES)
    turned = AnySizeSet(**(vars(data) | {"sizes": data.sizes.flip(1)}))
    assert data.sha256 == arzoo.data.load("own", sizes=SIZES).sha256 != turned.sha256


def test_rows_of_each_kind():
    groups = same_rows(torch.tensor([[2, 1], [1, 9], [2, 1], [1, 2]]))
    assert [group.tolist() for group in groups] == [[3], [1], [0, 2]]


def test_large_pictures_shrink_to_the_allowed_pixels(work):
    picture(Path("own/a/large.png"), (300, 100), 9)
    data = arzoo.data.load("own", sizes=SIZES)
    height, width = data.sizes[data.files.index("a/large.png")].tolist()
    assert (height, width) == SIZES.fitted(100, 300) == (32, 104)
    assert read_resized(Path("own/a/large.png"), 32, 104).shape == (32, 104, 3)


def test_pictures_without_an_allowed_size_are_left_out(work):
    picture(Path("own/b/thread.png"), (900, 4), 9)
    Path("own/b/broken.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"skipped 2 of 6 pictures, the first: b/broken.png"):
        data = arzoo.data.load("own", sizes=SIZES)
    assert len(data) == 4
    assert "b/thread.png: a picture of 4 x 900 pixels is too thin" in data.report[-1]
    Path("thin").mkdir()
    picture(Path("thin/thread.png"), (900, 4), 9)
    with pytest.raises(ArzooError, match=r"thin has 1 picture files, none readable .*too thin"):
        arzoo.data.load("thin", sizes=SIZES)


def test_drawings_lose_their_margins_and_nothing_else():
    data = drawings([(10, 20, 30, 60), (0, 0, 64, 64), (30, 31, 31, 32), (56, 1, 64, 64)])
    kept = without_margins(data, SIZES)
    assert kept.sizes.tolist() == [[24, 40], [64, 64], [8, 8], [8, 64]]
    for row, drawing in enumerate(data.images):
        alone = kept.pixels(slice(row, row + 1))[0]
        assert int((alone[..., 3] > 0).sum()) == int((drawing[..., 3] > 0).sum())
    assert torch.equal(kept.pixels(slice(0, 1))[0], data.images[0, 8:32, 20:60])
    assert "transparent margins are cut off" in kept.cropping


@pytest.mark.parametrize(
    ("data", "sizes", "message"),
    [
        (ten_pictures(), SIZES, "ten has pictures of one size. Leave sizes out"),
        (drawings([(0, 0, 64, 64)]), Sizes(28, 64, 4096), "64 x 64 pixels do not divide into tokens of 28"),
        (
            drawings([(0, 0, 64, 64)]),
            Sizes(8, 64, 2048),
            "64 x 64 pixels, which is not allowed.* model.most_pixels",
        ),
        (
            drawings([(0, 0, 8, 8)]),
            Sizes(8, 128, 4096),
            "8 x 8 pixels, which is not allowed: .* 128 to 4096 pixels",
        ),
    ],
)
def test_drawings_that_are_refused(data, sizes, message):
    with pytest.raises(ArzooError, match=message):
        without_margins(data, sizes)


def test_clips_are_refused(work):
    with pytest.raises(ArzooError, match="clips of a data set have one size"):
        arzoo.data.load("own", frames=8, sizes=SIZES)


def test_views_of_a_block_are_those_of_its_pictures(work):
    data, views = arzoo.data.load("own", sizes=SIZES), Views("augment", 1)
    clean = {
        int(place): x
        for places, part in views.parts(data, 0, 0)
        for place, x in zip(places, part, strict=True)
    }
    assert sorted(clean) == [0, 1, 2, 3]
    for row, x in clean.items():
        assert torch.equal(x, to_model(data.pixels(slice(row, row + 1)))[0])
    varied = list(views.parts(data, 1, 0))
    assert [part.shape[2:] for _, part in varied] == [(16, 40), (24, 40), (40, 16)]
    same = ten_pictures()
    (places, part), *none = views.parts(same, 1, 0)
    assert not none
    assert torch.equal(part, views.block(same, 1, 0))
    assert places.tolist() == list(range(10))
    with pytest.raises(ArzooError, match="by_size"):
        views.block(data, 0, 0)


def test_a_sheet_shows_whole_pictures(work, capsys):
    done = command(capsys, "data", "show", "own", "--sizes", "keep", "--out", "kept.png", "--json")
    assert done.status == 0, done.err
    assert done.json["size"] == "40 x 16 to 40 x 24, 3 sizes"
    assert "multiples of 8, 64 to 65536 pixels" in done.json["allowed"]
    assert "(anyres_emoji64)" in done.json["variations"]
    with Image.open("kept.png") as sheet:
        wide = sheet.size
    done = command(capsys, "data", "show", "own", "--out", "square.png", "--size", "32")
    assert done.status == 0, done.err
    with Image.open("square.png") as sheet:
        assert sheet.size != wide


def test_what_the_command_refuses(work, capsys):
    done = command(capsys, "data", "show", "own", "--sizes", "keep", "--size", "32")
    failing(done, "--size 32 is the side of squares", status=2)
    done = command(capsys, "data", "show", "own", "--sizes", "keep", "--recipe", "vq_emoji64")
    failing(done, "sizes=keep", "one size, 64 x 64", "longcat_8_small", status=2)


def test_recipes_name_the_sizes(monkeypatch):
    recipe = load_recipe("anyres_emoji64", {"sizes": "keep"}, ["model.most_pixels=9216"])
    assert allowed_sizes(recipe) == Sizes(8, 64, 9216)
    with pytest.raises(UsageError, match="takes those of one size, 64 x 64"):
        allowed_sizes(load_recipe("vq_emoji64"))
    with pytest.raises(ArzooError, match=r"sizes=keep is for pictures.*trains a segmenter"):
        load_recipe("segmamba_em", {"sizes": "keep"})
    assert "longcat_8_small" in registry.names("tokenizer")
