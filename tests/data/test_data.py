"""Data sets: the built-in drawings, folders of pictures, augmentation, contact sheets."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch
from command import command, failing, ten_pictures
from PIL import Image

import arzoo.data
from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.cli.data import Data
from arzoo.data.augmentation import Augment
from arzoo.data.base import label_of
from arzoo.data.folder import image_folder
from arzoo.data.reading import MAX_PIXELS
from arzoo.data.sets import emoji
from arzoo.data.transforms import augment, composite, to_model, to_uint8
from arzoo.viz.grid import contact_sheet


@pytest.fixture(scope="module")
def drawings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return arzoo.data.load("emoji64")


def picture(mode="RGB", size=(40, 30), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_emoji64_has_the_expected_classes(drawings):
    assert len(drawings) == 3782
    assert drawings.images.shape == (3782, 64, 64, 4)
    assert len(drawings.classes) == 198
    assert {name.rpartition("/")[2] for name in drawings.classes} == {"openmoji", "twemoji"}
    assert len(drawings.coarse_classes) == 9
    assert drawings.label_of("face-smiling/openmoji") == drawings.classes.index("face-smiling/openmoji")
    assert "red heart" in drawings.captions


def test_both_drawings_of_a_concept_are_in_the_same_split(drawings):
    sides = {}
    for caption, held in zip(drawings.captions, drawings.held_out.tolist(), strict=True):
        sides.setdefault(caption, set()).add(held)
    assert all(len(side) == 1 for side in sides.values())
    train, validation = drawings.split("train"), drawings.split("validation")
    assert len(train) + len(validation) == len(drawings)
    assert 0.03 < len(validation) / len(drawings) < 0.07
    assert not set(train.captions) & set(validation.captions)


def test_building_twice_gives_the_same_pixels(tmp_path, capsys):
    for name in ("a", "b"):
        emoji._build(32, tmp_path / name, limit=20)
        assert capsys.readouterr().err.startswith("drawing emoji32 on first use")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not list(tmp_path.glob(".*")), "no partial file stays"


def test_other_packages_are_announced():
    with pytest.warns(UserWarning, match=r"emoji 1\.0 \(expected 2\.16\.0\)"):
        emoji._check(32, "0" * 64, {**emoji._PACKAGES, "emoji": "1.0"})


@pytest.mark.filterwarnings("ignore:emoji32 differs")
def test_a_damaged_cache_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    build = emoji._build
    monkeypatch.setattr(emoji, "_build", lambda size, path: build(size, path, limit=3))
    with pytest.warns(UserWarning, match="differs from the pictures"):
        whole = emoji.emoji32()
    (file,) = (tmp_path / "data").iterdir()
    half = file.read_bytes()[:1000]
    file.unlink()  # what is open stays readable: the tensors are mapped from the file
    file.write_bytes(half)
    with pytest.warns(UserWarning, match="is damaged"):
        assert emoji.emoji32().sha256 == whole.sha256


def test_unknown_names_are_corrected(drawings):
    with pytest.raises(UnknownName, match="emoji64"):
        arzoo.data.load("emoji46")
    with pytest.raises(UnknownName, match="face-smiling/openmoji"):
        drawings.label_of("face-smilling/openmoji")
    with pytest.raises(ArzooError, match="0 to 197"):
        label_of("198", drawings.classes)
    with pytest.raises(UnknownName, match="validation"):
        drawings.split("test")


def test_folder_reads_every_mode_and_reports_what_it_skips(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    for i, mode in enumerate(("RGB", "RGBA", "P", "L", "LA", "1")):
        picture(mode, seed=i).save(tmp_path / "cat" / f"{mode}.png")
    picture("CMYK").save(tmp_path / "dog" / "cmyk.jpg")
    Image.fromarray(np.full((20, 20), 40000, dtype=np.uint16)).save(tmp_path / "dog" / "grey16.png")
    whole = (tmp_path / "cat" / "RGB.png").read_bytes()
    (tmp_path / "dog" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "empty.png").write_bytes(b"")
    (tmp_path / "dog" / "text.jpg").write_text("no picture")
    (tmp_path / "dog" / "notes.md").write_text("ignored")
    with pytest.warns(UserWarning, match="skipped 3 of 11"):
        data = image_folder(tmp_path, 16)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0] * 6 + [1] * 2
    assert data.images.shape == (8, 16, 16, 3)
    assert all(name in " ".join(data.report) for name in ("truncated.png", "empty.png", "text.jpg"))
    assert abs(int(data.images[-1].float().mean()) - 40000 * 255 // 65535) <= 1
    assert int(data.held_out.sum()) == 1


def test_deep_greys_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((20, 20), 200, dtype=np.uint16)).save(tmp_path / "dark16.png")
    Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32)).save(tmp_path / "half.tif")
    images = image_folder(tmp_path, 16).images
    assert images[0].max() == 1
    assert images[1].float().mean() == 128


def test_very_long_pictures_stay_small_in_memory(tmp_path):
    pixels = np.zeros((3, 3_000_001, 3), dtype=np.uint8)
    pixels[:, 1_500_000 - 100 : 1_500_000 + 101] = 255
    Image.fromarray(pixels).save(tmp_path / "long.png")
    assert image_folder(tmp_path, 64).images.min() == 255, "the middle"


def test_opacity_becomes_white(tmp_path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert image_folder(tmp_path, 16).images.min() == 255


def test_captions_from_either_place(tmp_path):
    for name in "abc":
        picture().save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a hat\n")
    (tmp_path / "captions.json").write_text(json.dumps({"b.png": "a boat"}))
    assert image_folder(tmp_path, 16).captions == ("a hat", "a boat", "")
    (tmp_path / "captions.json").write_text("[1]")
    with pytest.raises(ArzooError, match="table of captions"):
        image_folder(tmp_path, 16)


def test_captions_tell_files_of_one_name_apart(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "0.png")
    lines = [{"file_name": f"{name}/0.png", "text": f"a {name}"} for name in ("cat", "dog")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert image_folder(tmp_path, 16).captions == ("a cat", "a dog")
    (tmp_path / "captions.jsonl").write_text('{"file": "cat/0.png"}')
    with pytest.raises(ArzooError, match="on every line"):
        image_folder(tmp_path, 16)


def test_empty_and_unreadable_folders_say_what_to_do(tmp_path):
    with pytest.raises(ArzooError, match="no picture files"):
        arzoo.data.load(str(tmp_path))
    (tmp_path / "x.png").write_bytes(b"junk")
    with pytest.raises(ArzooError, match="none readable"):
        image_folder(tmp_path, 16)
    with pytest.raises(ArzooError, match="side 0"):
        image_folder(tmp_path, 0)


def test_bombs_are_skipped(tmp_path):
    picture().save(tmp_path / "good.png")
    Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)).save(tmp_path / "bomb.png")
    with pytest.warns(UserWarning, match="bomb"):
        assert len(image_folder(tmp_path, 16)) == 1


def test_augmentation_follows_its_numbers_and_leaves_direction_alone(drawings):
    rows, policy = torch.arange(64), Augment(mirror=1.0, shift=0.0, resize=0.0, background=0.0)
    images = drawings.images[rows]
    mirrorable = torch.arange(64) % 2 == 0
    uniform = torch.rand(64, 9, generator=torch.Generator().manual_seed(3))
    x = augment(images, mirrorable, uniform, policy)
    assert torch.equal(x, augment(images, mirrorable, uniform, policy))
    clean = to_model(composite(images))
    expected = torch.where(mirrorable[:, None, None, None], clean.flip(3), clean)
    assert (x - expected).abs().max() < 0.02
    lively = augment(images, mirrorable, uniform, Augment(background=1.0))
    assert lively.shape == (64, 3, 64, 64)
    assert lively.min() >= -1.001
    assert lively.max() <= 1.001


def test_shift_is_a_share_of_each_side():
    images = torch.full((200, 20, 100, 4), 255, dtype=torch.uint8)
    policy = Augment(shift=0.1, resize=0.0, mirror=0.0, background=0.0)
    images[..., :3] = 0
    x = augment(images, torch.zeros(200, dtype=torch.bool), torch.rand(200, 9), policy)
    white = x[:, 0] > 0
    assert white.all(2).sum(1).max() == 2, "whole rows, of 20"
    assert white.all(1).sum(1).max() == 10, "whole columns, of 100"


def test_pixels_survive_the_way_to_the_model_and_back(drawings):
    images = composite(drawings.images[:8])
    assert torch.equal(to_uint8(to_model(images)), images)


def test_contact_sheet_has_room_for_all():
    images = torch.zeros(7, 10, 12, 3, dtype=torch.uint8)
    assert contact_sheet(images, columns=3, zoom=1).size == (3 * 14 + 2, 3 * 12 + 2)
    assert contact_sheet(images, titles=["title"] * 7, columns=7, zoom=2).size == (
        7 * 26 + 2,
        20 + 12 + 2 + 2,
    )
    assert contact_sheet(images, columns=7, pad=0).size == (7 * 12 * 8, 10 * 8), "small pictures are enlarged"
    with pytest.raises(ArzooError, match="at least one picture"):
        contact_sheet(images[:0])
    with pytest.raises(ArzooError, match="1 titles for 7"):
        contact_sheet(images, titles=["one"])
    with pytest.raises(ArzooError, match="1 captions for 7 pictures"):
        contact_sheet(images, captions=["one"])


def test_show_draws_a_split_and_never_overwrites_silently(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    sheet = tmp_path / "new" / "sheet.png"
    arguments = ("data", "show", "ten", "--out", sheet, "--split", "validation", "--num", 1, "--json")
    facts = command(capsys, *arguments).json
    assert (facts["pictures"], facts["train"], facts["validation"]) == (2, 8, 2)
    assert Image.open(sheet).size == (96 + 4, 96 + 16 + 4), "enlarged, with its class"
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]
    failing(command(capsys, *arguments), "--overwrite")
    assert command(capsys, *arguments, "--overwrite").status == 0
    failing(command(capsys, "data", "show", "ten", "--num", 0), "--num", status=2)
    choose, chosen = Data._chosen, []
    monkeypatch.setattr(Data, "_chosen", lambda self, data: chosen.append(1) or choose(self, data))
    assert command(capsys, *arguments, "--overwrite", "--dry-run").json["on_the_sheet"] == 1
    assert len(chosen) == 1, "pictures are varied once"


def test_show_draws_clips_as_rows_and_plays_them(capsys, tmp_path, monkeypatch):
    ten = ten_pictures(8)
    clips = ten.images[:, None].repeat(1, 5, 1, 1, 1)
    clips[:, 3] = 255 - clips[:, 3]
    data = dataclasses.replace(ten, images=clips, fps=20.0)
    monkeypatch.setitem(registry._entries["dataset"], "clips", lambda: data)
    sheet = tmp_path / "sheet.png"
    arguments = ("data", "show", "clips", "--out", sheet, "--json")
    planned = command(capsys, *arguments, "--dry-run").json
    assert not sheet.exists()
    failing(command(capsys, *arguments, "--fps", "10"), "clips is none")
    facts = command(capsys, *arguments).json
    assert (facts["clips"], facts["frames"], facts["size"], facts["fps"]) == (10, 5, [8, 8], 20)
    assert Image.open(facts["sheet"]).size == (5 * 98 + 2, 2 * (96 + 16 + 2) + 2)
    with Image.open(facts["animation"]) as animation:
        assert animation.n_frames == 3, "equal frames are one"
        assert animation.size == (2 * 10 + 2, 10 + 2)
        assert animation.info["duration"] == 150, "three frames of 20 a second"
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert (planned["clips"], planned["on_the_sheet"], planned["sizes"]) == (10, 2, sizes)
    assert "variations" not in command(capsys, *arguments[:3], "--recipe", "vq_emoji64", "--json").json
    sheet.unlink()
    failing(command(capsys, *arguments), "--overwrite")
    assert not sheet.exists(), "refused before anything is written"
    failing(command(capsys, "data", "show", "clips", "--out", tmp_path / "a.gif"), "beside it", status=2)
