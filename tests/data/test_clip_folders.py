"""Folders of clips: classes, splits, what is left out, captions, and the copy in the cache."""

import re
import sys

import numpy as np
import pytest
import torch
from command import command
from filming import animation, counting, film, numbers, sequence, sound
from PIL import Image

import arzoo.data
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.data import clip_folder as module
from arzoo.data.clip_folder import clip_folder
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    """A folder of three classes with one clip each."""
    folder = tmp_path / "data"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    film(folder / "cat" / "a.mp4", counting(12, (31, 45)), fps=30)
    animation(folder / "dog" / "b.gif", counting(12))
    sequence(folder / "emu" / "run", counting(12))
    return folder


def test_classes_are_sub_folders_and_files_stay_in_one_split(data):
    clips = clip_folder(data, 16, 5)
    assert clips.images.shape == (6, 5, 16, 16, 3)
    assert clips.classes == ("cat", "dog", "emu")
    assert sorted(zip(clips.files, clips.labels.tolist(), strict=True)) == [
        *[("cat/a.mp4", 0)] * 2,
        *[("dog/b.gif", 1)] * 2,
        *[("emu/run", 2)] * 2,
    ]
    assert [numbers(clip.numpy()) for clip in clips.images] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]] * 3
    assert clips.held_out.tolist() == [True] * 2 + [False] * 4
    assert not clips.report
    assert not set(clips.split("train").files) & set(clips.split("validation").files)


def test_rate_and_stride(data):
    resampled = clip_folder(data / "cat", 16, 2, fps=10)
    assert [numbers(clip.numpy()) for clip in resampled.images] == [[0, 3], [6, 9]]
    overlapping = clip_folder(data / "cat", 16, 8, stride=2)
    assert [numbers(clip.numpy())[0] for clip in overlapping.images] == [0, 2, 4]
    apart = clip_folder(data / "cat", 16, 2, stride=7)
    assert [numbers(clip.numpy())[0] for clip in apart.images] == [0, 7]
    assert not overlapping.held_out.any(), "one file is in one split"
    for options, message in (({"fps": -1}, "above 0"), ({"stride": 0}, "stride of clips in frames must be")):
        with pytest.raises(ArzooError, match=message):
            clip_folder(data, 16, 2, **options)


def test_frames_per_second_are_those_of_the_files(data):
    assert clip_folder(data / "cat", 16, 2).fps == pytest.approx(30)
    assert clip_folder(data / "cat", 16, 2).fps == pytest.approx(30), "also when they are read again"
    assert clip_folder(data / "cat", 16, 2, fps=10).fps == 10
    assert clip_folder(data / "emu", 16, 2).fps is None, "pictures do not say how fast they follow each other"


def test_what_cannot_be_read_is_counted(data):
    content = (data / "cat" / "a.mp4").read_bytes()
    (data / "cat" / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (data / "cat" / "empty.webm").write_bytes(b"")
    sound(data / "cat" / "sound.mp4")
    film(data / "cat" / "short.mp4", counting(3))
    Image.new("RGB", (8, 8)).save(data / "dog" / "still.gif")
    Image.new("RGB", (8, 8)).save(data / "dog" / "cover.png")
    (data / "dog" / "speech.mp3").write_bytes(b"x")
    film(data / "dog" / "varies.mp4", counting(6), seconds=[0, 0.1, 0.2, 0.6, 0.7, 1.0])
    with pytest.warns(UserWarning, match="skipped 5 of 9 clip files"):
        clips = clip_folder(data, 16, 5)
    assert len(clips) == 7
    assert sorted(set(clips.files)) == ["cat/a.mp4", "dog/b.gif", "dog/varies.mp4", "emu/run"]
    report = "\n".join(clips.report)
    for expected in (
        r"1 pictures in .*data are left out, as they are no folder of numbered pictures, the first: dog/cover.png",
        r"1 files of .*data are left out, as \.mp3 are not read",
        r"1 of 4 clip files in .*data have a variable frame rate",
        r"truncated\.mp4: ",
        r"empty\.webm: ",
        r"sound\.mp4: it has no pictures, only sound or text",
        r"short\.mp4: it has 3 frames, too few for a clip of 5",
        r"still\.gif: it has 1 frame, too few for a clip of 5",
    ):
        assert re.search(expected, report), expected


def test_clips_before_the_damage_are_read(data):
    sequence(data / "cat" / "broken", counting(12))
    (data / "cat" / "broken" / "frame_7.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 4 clip files in .* are damaged: the clips before the damage"):
        clips = clip_folder(data, 16, 5)
    assert clips.files.count("cat/broken") == 1


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ArzooError, match=r"has no clip files\. Put clips"):
        clip_folder(tmp_path / "data", 16, 5)
    film(tmp_path / "data" / "a.mp4", counting(3))
    for _ in range(2):  # also from what the first attempt left
        with pytest.raises(ArzooError, match=r"1 clip files, none usable \(a.mp4: it has 3 frames"):
            clip_folder(tmp_path / "data", 16, 5)
    with pytest.raises(ArzooError, match="may not be read"):
        clip_folder(tmp_path / "none", 16, 5)


def test_a_missing_package_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage, match=r"pip install 'arzoo\[video\]'"):
        clip_folder(data, 16, 5)
    assert len(clip_folder(data / "emu", 16, 5)) == 2


def test_files_are_decoded_once_until_they_change(data, monkeypatch):
    first = clip_folder(data, 16, 5)
    decoded = []
    frames_of = module.frames_of
    monkeypatch.setattr(
        module, "frames_of", lambda path, fps: decoded.append(path.name) or frames_of(path, fps)
    )
    again = clip_folder(data, 16, 5)
    assert not decoded
    assert torch.equal(again.images, first.images)
    assert again.files == first.files
    film(data / "cat" / "c.mp4", counting(6))
    assert len(clip_folder(data, 16, 5)) == 7
    assert sorted(decoded) == ["a.mp4", "b.gif", "c.mp4", "run"]
    assert torch.equal(first.images[1, 0], again.images[1, 0]), "what is open stays readable"


def test_captions(data):
    (data / "cat" / "a.txt").write_text("a cat")
    (data / "captions.json").write_text('{"emu/run": "an emu that runs", "owl.mp4": "an owl"}')
    with pytest.warns(UserWarning, match="captions name no clip that was read, the first: owl.mp4"):
        clips = clip_folder(data, 16, 5)
    captions = dict(zip(clips.files, clips.captions, strict=True))
    assert captions == {"cat/a.mp4": "a cat", "emu/run": "an emu that runs", "dog/b.gif": ""}
    assert "2 of 6 clips have no caption, the first: dog/b.gif" in clips.report


def test_load_reads_folders_of_videos_as_clips(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    film(folder / "a.mp4", counting(20))
    film(folder / "b.mp4", counting(20))
    assert arzoo.data.load(str(folder), 8).images.shape == (2, 17, 8, 8, 3)
    assert arzoo.data.load(str(folder), 8, frames=9, stride=11).images.shape == (4, 9, 8, 8, 3)
    with pytest.raises(ArzooError, match="holds videos, pictures are needed"):
        arzoo.data.load(str(folder), 8, frames=1)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "b.png")
    with pytest.warns(UserWarning, match=r"2 files of .* are left out, as \.mp4 are not read"):
        assert arzoo.data.load(str(folder), 8).frames == 1
    with pytest.raises(ArzooError, match="fps and stride are settings of folders of clips"):
        arzoo.data.load("emoji64", fps=8)


def test_animations_beside_videos_are_clips_and_so_is_what_is_read_by_time(tmp_path):
    """Whether a GIF or WebP is a clip or a picture follows from what lies beside it, and from the options."""
    folder = tmp_path / "data"
    folder.mkdir()
    animation(folder / "a.gif", counting(20))
    animation(folder / "b.webp", counting(20))
    with pytest.warns(UserWarning, match="2 of 2 pictures .* have several frames"):
        assert arzoo.data.load(str(folder), 8).frames == 1
    assert arzoo.data.load(str(folder), 8, fps=10).images.shape == (2, 17, 8, 8, 3)
    assert arzoo.data.load(str(folder), 8, stride=3).images.shape == (4, 17, 8, 8, 3)
    film(folder / "c.mp4", counting(20))
    (folder / "d.gif").touch()
    with pytest.warns(UserWarning, match=r"skipped 1 of 4 clip files, the first: d\.gif: it is empty"):
        assert arzoo.data.load(str(folder), 8).images.shape == (3, 17, 8, 8, 3)
    animation(folder / "e.gif", counting(1))
    with pytest.warns(UserWarning, match=r"1 files of .* are left out, as \.mp4 are not read"):
        assert arzoo.data.load(str(folder), 8).frames == 1


def test_tokenizers_are_trained_on_a_folder_and_encode_it(capsys, data, tmp_path):
    folder, out = str(data / "cat"), tmp_path / "run"
    film(data / "cat" / "c.mp4", counting(24), fps=30)
    recipe = {
        "data": folder, "fps": 15.0, "stride": 2, "limit": 0,
        "model": {"name": "vq_4_micro", "image_size": 32, "frames": 5},
        "run": {"steps": 2, "batch": 2, "save_every": 2, "preview_every": 2},
    }  # fmt: skip
    run(load_recipe("smoke", recipe), out)
    arguments = (
        "tokenize",
        folder,
        "--tokenizer",
        out,
        "--out",
        tmp_path / "codes",
        "--fps",
        15,
        "--stride",
        2,
    )
    facts = command(capsys, *arguments, "--json").json
    assert facts["train"]["shape"] == [1, 1, 320]
    assert facts["validation"]["shape"] == [1, 4, 320], "of frames 0, 2, ... 22: from 0, 4, 8 and 12"
    with pytest.raises(ArzooError, match="fps must be from 0 to 1000"):
        load_recipe("smoke", recipe | {"fps": -1.0})
