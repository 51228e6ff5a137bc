"""Folders of pictures: what counts and what is left out is the same for every verb, and said by each."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command import command, picture, ten_pictures, tiny_models
from PIL import Image
from tiny_net import tiny_net

from arzoo.base import memory, registry
from arzoo.base.errors import ArzooError
from arzoo.base.walk import tree
from arzoo.checkpoints.names import folders
from arzoo.cli.pictures import expand, read_picture
from arzoo.data.folder import image_folder
from arzoo.data.picture_files import list_pictures
from arzoo.data.pictures import FolderPictures
from arzoo.data.reading import read_sized
from arzoo.train.conditions import conditions


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry._entries["feature_net"], "tiny", tiny_net)
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    for i, name in enumerate(("ant", "bee", "bee")):
        Path("data", name).mkdir(parents=True, exist_ok=True)
        picture(Path("data", name, f"{i}.png"), seed=i)
    return tmp_path


def listed(folder="data") -> tuple[list[str], str]:
    """Paths of the pictures of a folder, and its remarks as one text."""
    found = list_pictures(Path(folder))
    return [path.relative_to(folder).as_posix() for path in found.files], "\n".join(found.remarks)


PLAIN = ["ant/0.png", "bee/1.png", "bee/2.png"]


def test_links_to_folders_are_followed_once(work):
    elsewhere = work / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    picture(elsewhere / "3.png", seed=3)
    picture(elsewhere / "deep" / "4.png", seed=4)
    (elsewhere / "back").symlink_to(work / "data")
    (elsewhere / "deep" / "self").symlink_to(".")
    Path("data", "cat").symlink_to(elsewhere)
    Path("data", "ant", "up").symlink_to(work)
    Path("data", "ant", "copy.png").symlink_to("0.png")
    paths, remarks = listed()
    assert paths[:2] == ["ant/0.png", "ant/copy.png"]
    assert {"cat/3.png", "cat/deep/4.png"} <= set(paths)
    assert len([path for path in paths if path.endswith("/4.png")]) == 1, "not once more by another way"
    assert "links in data lead to folders that are read by another name" in remarks
    assert set(image_folder(Path("data"), 16).classes) == {"ant", "bee", "cat"}


def test_links_that_lead_nowhere_are_said(work):
    Path("data", "ant", "gone.png").symlink_to("nothing.png")
    Path("data", "dog").symlink_to("nothing")
    Path("data", "bee", "loop.png").symlink_to("loop.png")
    paths, remarks = listed()
    assert paths == PLAIN
    assert "3 links in data lead nowhere, the first: ant/gone.png" in remarks


def test_what_is_hidden_or_no_picture(work):
    shutil.copy("data/ant/0.png", "data/ant/._0.png")
    Path("data/ant/.DS_Store").write_bytes(b"x")
    for name in ("__MACOSX", ".thumbnails"):
        Path("data", name).mkdir()
        shutil.copy("data/ant/0.png", f"data/{name}/1.png")
    assert listed() == (
        PLAIN,
        "1 hidden pictures or folders of pictures in data are left out, the first: .thumbnails",
    )
    Path("data/notes.md").touch()
    Path("data/LICENSE").touch()
    assert "not read" not in listed()[1], "what lies beside pictures is no picture"


def test_other_types_and_classes_that_vanish_are_said(work):
    shutil.copy("data/ant/0.png", "data/bee/x.JFIF")
    shutil.copy("data/ant/0.png", "data/bee/without")
    Path("data/cat").mkdir()
    shutil.copy("data/ant/0.png", "data/cat/x.avif")
    Path("data/dog/empty").mkdir(parents=True)
    paths, remarks = listed()
    assert paths == PLAIN
    assert "3 files of data are left out, as .avif, .jfif, files without a type are not read" in remarks
    assert "no picture is read in cat, dog of data: they make no class" in remarks
    Path("data/emu").mkdir()
    Path("data/emu/0.png").write_bytes(b"junk")
    with pytest.warns(UserWarning, match="no picture is read in emu: they make no class"):
        assert image_folder(Path("data"), 16).classes == ("ant", "bee")


@pytest.mark.parametrize(
    "names", [("train", "val"), ("Train", "Test"), ("training", "validation", "test"), ("train",)]
)
def test_parts_of_a_data_set_are_no_classes(tmp_path, names):
    for name in names:
        (tmp_path / name / "ant").mkdir(parents=True)
        picture(tmp_path / name / "ant" / "0.png")
    (remark,) = list_pictures(tmp_path).remarks
    assert "look like parts of a data set and are read as classes" in remark
    assert not list_pictures(tmp_path / names[0]).remarks


def test_own_contact_sheets_are_no_pictures(capsys, work):
    tiny_models(work)
    for seed in (0, 1):
        assert (
            command(capsys, "generate", "gen", "--num", 2, "--seed", seed, "--out", f"out/{seed}").status == 0
        )
    paths, remarks = listed("out")
    assert len(paths) == 4
    assert "2 contact sheets (grid.png) in out are left out" in remarks
    shutil.copytree("out/0", "moved")
    Path("moved/run.json").unlink()
    assert len(listed("moved")[0]) == 2, "a sheet says of itself what it is"
    picture(Path("data/ant/grid.png"))
    assert "ant/grid.png" in listed()[0], "a picture of this name that is none of ours"
    picture(Path("out/0/mine.png"))
    Path("out/1/0000_animal-plain_seed1.png").unlink()
    remarks = listed("out")[1]
    assert "1 pictures of out/0 are left out, as its run.json does not name them" in remarks
    assert "1 pictures that run.json of out/1 names are missing" in remarks


def odd(folder: Path) -> dict[str, str]:
    """Pictures of odd kinds; of each what is said of it."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    folder.mkdir()
    rgb.convert("RGBA").save(folder / "opacity.png")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "inks.jpg")
    rgb.save(folder / "moving.gif", save_all=True, append_images=[rgb.rotate(90)])
    Image.fromarray(np.full((20, 20), 40000, dtype=np.uint16)).save(folder / "deep.png")
    Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32)).save(folder / "float.tif")
    return {
        "opacity channel": "1 of 6", "palette": "2 of 6", "CMYK": "1 of 6", "several frames": "1 of 6",
        "16 bits": "1 of 6", "32 bits": "1 of 6",
    }  # fmt: skip


def shown(result, warned) -> str:
    """What a person sees: the command prints warnings to standard error, tests collect them."""
    return "\n".join([result.out, result.err, *(str(warning.message) for warning in warned)])


VERBS = {
    "tokenize": ["tokenize", "odd", "--tokenizer", "tok", "--out", "made"],
    "reconstruct": ["reconstruct", "odd", "--tokenizer", "tok", "--out", "made"],
    "evaluate": [
        "evaluate",
        "ten",
        "--reference",
        "odd",
        "--net",
        "tiny",
        "--metrics",
        "fd",
        "--out",
        "made",
    ],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_the_same_and_keeps_it(capsys, recwarn, work, verb):
    tiny_models(work)
    expected = odd(Path("odd"))
    Path("odd/x.jp2").touch()
    result = command(capsys, *VERBS[verb])
    assert result.status == 0, result.err
    kept = "\n".join(json.loads(Path("made/run.json").read_text())["remarks"])
    for said in (kept, shown(result, recwarn)):
        assert "1 files of odd are left out, as .jp2 are not read" in said
        for words, count in expected.items():
            assert any(words in line and f"{count} pictures of odd" in line for line in said.splitlines()), (
                words
            )


def test_data_show_says_it_too(capsys, recwarn, work):
    expected = odd(Path("odd"))
    result = command(capsys, "data", "show", "odd", "--json")
    for said in ("\n".join(result.json["remarks"]), shown(result, recwarn)):
        assert all(f"{count} pictures of odd" in said and words in said for words, count in expected.items())


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (40, 40)])
def test_the_same_pixels_everywhere(work, size):
    for name, sides in (("wide", (90, 50)), ("tall", (20, 70)), ("exact", size[::-1])):
        picture(Path(f"data/{name}.png"), sides)
    files, _ = expand(["data"])
    ours = np.stack([read_sized(Path(path), *size) for path in files])
    assert (ours == np.stack([read_picture(path, *size).numpy() for path in files])).all()
    assert (ours == FolderPictures(Path("data"), size).read(range(len(files))).numpy()).all()
    if size[0] == size[1]:
        assert (ours == image_folder(Path("data"), size[0]).images.numpy()).all()
    exact = files.index("data/exact.png")
    assert (ours[exact] == np.asarray(Image.open("data/exact.png"))).all(), "what has the size stays as it is"


@pytest.mark.parametrize("values", ["above", "signed", "infinite", "none", "huge"])
def test_numbers_that_are_no_brightness_are_left_out_or_refused(work, values):
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (16, 1))
    spoiled = {"above": ramp * 1.01, "signed": ramp * 2 - 1, "huge": ramp * 1e6}.get(values, ramp.copy())
    spoiled[0, 0] = {"infinite": np.inf, "none": np.nan}.get(values, spoiled[0, 0])
    Image.fromarray(ramp).save("data/ant/good.tif")
    Image.fromarray(spoiled).save("data/ant/odd.tif")
    with pytest.warns(UserWarning, match="skipped 1 of 5 pictures, the first: ant/odd.tif: has "):
        data = image_folder(Path("data"), 16)
    assert "ant/odd.tif" not in data.files
    assert abs(float(data.images[data.files.index("ant/good.tif")].float().mean()) - 127.5) < 1
    with pytest.raises(ArzooError, match=r"odd\.tif has .*Scale the pictures to 0\.\.255"):
        read_picture("data/ant/odd.tif", 16, 16)
    rows = range(5)
    with pytest.raises(ArzooError, match=r"odd\.tif has .*Scale the pictures to 0\.\.255"):
        FolderPictures(Path("data")).read(rows)


def test_captions_that_are_missing_or_lead_to_no_picture(work):
    Path("data/ant/0.txt").write_text("an ant")
    Path("data/captions.json").write_text(json.dumps({"bee/1.png": "a bee", "bee/9.png": "lost"}))
    with pytest.warns(UserWarning, match="1 of 3 pictures have no caption, the first: bee/2.png"):
        data = image_folder(Path("data"), 16)
    assert data.captions == ("an ant", "a bee", "")
    assert "1 captions name no picture that was read, the first: bee/9.png" in data.report


def test_a_folder_that_does_not_fit_into_memory_is_refused_before_it_is_read(work, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2000)
    monkeypatch.setattr("arzoo.data.folder._read", lambda *rest: pytest.fail("it was read"))
    with pytest.raises(
        ArzooError, match=r"data: 3 pictures of 64 x 64 take 36\.9 kB of memory, 2\.0 kB are free\. Take"
    ):
        image_folder(Path("data"), 64)


def test_a_folder_without_pictures_says_what_is_there(work):
    shutil.rmtree("data")
    Path("data").mkdir()
    Path("data/x.heic").touch()
    for read in (
        lambda: image_folder(Path("data"), 16),
        lambda: FolderPictures(Path("data")),
        lambda: expand(["data"]),
    ):
        with pytest.raises(ArzooError, match=r"no picture.*Besides, 1 files of data are left out, as \.heic"):
            read()


def test_plain_folders_are_read_without_a_remark(work):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = image_folder(Path("data"), 16)
    assert (data.report, data.files) == ((), tuple(PLAIN))
    assert FolderPictures(Path("data")).notes == []


def test_checkpoints_behind_a_link_are_found(work):
    tiny_models(work / "scratch")
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(work / "scratch" / "gen")
    Path("runs/again").symlink_to(work / "runs")
    assert list(folders("runs")) == [Path("runs/mine")]


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="may read everything")
def test_folders_that_may_not_be_read_are_said(work):
    Path("data/ant").chmod(0)
    try:
        assert "1 folders in data are left out, as they may not be read" in listed()[1]
    finally:
        Path("data/ant").chmod(0o700)


def test_a_walk_enters_folders_by_their_own_names_first(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "x").touch()
    (tmp_path / "a").symlink_to("z")
    found = tree(tmp_path)
    assert found.files == [tmp_path / "z" / "x"]
    assert found.repeated == [tmp_path / "a"]


def test_training_on_captions_names_the_picture_without_one(work):
    for i, name in enumerate(("ant/0", "bee/1", "bee/2")):
        Path("data", f"{name}.txt").write_text("word " * i)
    reader = SimpleNamespace(
        length=4,
        encoder=lambda texts, length, batch: (torch.zeros(len(texts), 4, 2), torch.ones(len(texts), 4)),
    )
    with pytest.warns(UserWarning, match="no caption"):
        data = image_folder(Path("data"), 16)
    with pytest.raises(
        ArzooError, match=r"1 of 3 pictures of 'data' have no caption to train on, the first: ant/0\.png"
    ):
        conditions(data, reader, 0.5, 0.0)
    assert conditions(data.select(torch.tensor([1, 2])), reader, 0.5, 0.0).captions == ["word", "word word"]


def test_the_working_folder_has_a_name(work, monkeypatch):
    monkeypatch.chdir(work / "data" / "ant")
    data = image_folder(Path("."), 16)
    assert (data.name, data.classes, FolderPictures(Path(".")).name) == ("ant", ("ant",), "ant")
