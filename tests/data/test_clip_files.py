"""Reading of clip files: formats, time, orientation, opacity, damage."""

import gc
import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest
from filming import animation, counting, film, header, numbers, sequence, sound
from PIL import Image

from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.data.clip_files import Frame, clips_of, read_clip, resampled

av = pytest.importorskip("av")


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif", "a.webp", "a"])
def test_every_format_gives_its_frames(tmp_path, name):
    path = tmp_path / name
    if name.endswith((".gif", ".webp")):
        animation(path, counting(12))
    elif path.suffix == "":
        sequence(path, counting(12))  # frame_10 comes after frame_9
    else:
        film(path, counting(12), codec="libvpx-vp9" if name == "a.webm" else "libx264")
    clip = read_clip(path, 12, 32)
    assert clip.shape == (12, 32, 32, 3)
    assert clip.dtype == np.uint8
    assert numbers(clip) == list(range(12))
    assert abs(clip.astype(int) - counting(12)).max() <= 2
    assert numbers(read_clip(str(path), 3, (8, 16))) == [0, 1, 2]


def test_frames_are_taken_by_time(tmp_path):
    path = film(tmp_path / "a.mp4", counting(18), fps=30)
    assert numbers(read_clip(path, 6, 32, fps=10)) == [0, 3, 6, 9, 12, 15]
    assert numbers(read_clip(path, 6, 32, fps=60)) == [0, 0, 1, 1, 2, 2]
    assert numbers(read_clip(path, 4, 32, fps=20)) == [0, 1, 3, 4]
    assert numbers(read_clip(path, 3, 32, fps=10, start=0.2)) == [6, 9, 12]
    assert numbers(read_clip(path, 3, 32, start=0.25)) == [7, 8, 9]
    with pytest.raises(ArzooError, match=r"a\.mp4 has 6 frames at 10 a second, 7 are needed"):
        read_clip(path, 7, 32, fps=10)
    with pytest.raises(ArzooError, match=r"has 0 frames after 2 s"):
        read_clip(path, 1, 32, start=2)


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_rounded_times_repeat_and_miss_no_frame(tmp_path, fps):
    path = film(tmp_path / "a.webm", counting(18), fps=fps, codec="libvpx-vp9")  # times in milliseconds
    assert numbers(read_clip(path, 18, 32, fps=fps)) == list(range(18))
    assert numbers(read_clip(path, 9, 32, fps=fps / 2)) == list(range(0, 18, 2))


def test_a_variable_frame_rate_is_resampled_by_time(tmp_path):
    path = film(tmp_path / "a.mp4", counting(6), seconds=[0, 0.1, 0.2, 0.6, 0.7, 1.0])
    assert numbers(read_clip(path, 11, 32, fps=10)) == [0, 1, 2, 2, 2, 2, 3, 4, 4, 4, 5]
    assert numbers(read_clip(path, 6, 32)) == list(range(6))
    of_durations = animation(tmp_path / "a.webp", counting(4), [100, 300, 0, 100])
    assert numbers(read_clip(of_durations, 6, 32, fps=10)) == [0, 1, 1, 1, 2, 3]


def test_a_folder_has_the_rate_that_is_asked_for(tmp_path):
    folder = sequence(tmp_path / "a", counting(5))
    assert numbers(read_clip(folder, 5, 32, fps=8)) == list(range(5))
    assert numbers(read_clip(folder, 2, 32, fps=8, start=0.25)) == [2, 3]
    (folder / "notes.txt").write_text("ignored")
    assert numbers(read_clip(folder, 5, 32)) == list(range(5))
    Image.new("RGB", (8, 8)).save(folder / "cover.png")
    with pytest.raises(
        ArzooError, match=r"has 0 frames, 1 is needed\. .* the names of all end with a number"
    ):
        read_clip(folder, 1, 32)


def half_red(size, channels=3, frames=3):
    """Clips of which the upper half is red; frames differ, as equal ones are merged by writers of animations."""
    clip = np.zeros((frames, *size, channels), np.uint8)
    clip[..., 2] = np.arange(frames)[:, None, None] * 20
    clip[:, : size[0] // 2, :, 0] = 255
    clip[..., 3:] = 255
    return clip


@pytest.mark.parametrize(("turn", "side"), [(90, "left"), (180, "bottom"), (-90, "right")])
def test_pictures_are_turned_as_the_file_says(tmp_path, turn, side):
    clip = read_clip(film(tmp_path / "a.mp4", half_red((16, 16)), turn=turn), 3, 16)[0].astype(int)
    reds = {"left": clip[:, :6], "right": clip[:, 10:], "top": clip[:6], "bottom": clip[10:]}
    assert max(reds, key=lambda name: reds[name][..., 0].mean()) == side


def test_sizes_are_odd_and_the_middle_is_taken(tmp_path):
    clip = counting(3, (31, 57))
    clip[:, :, :10] = clip[:, :, -10:] = 255
    path = film(tmp_path / "a.mp4", clip)
    assert numbers(read_clip(path, 3, 31)) == [0, 1, 2]
    assert read_clip(path, 3, (31, 57)).shape == (3, 31, 57, 3)
    wide = film(tmp_path / "wide.mp4", half_red((32, 16)), pixel=Fraction(2))
    assert read_clip(wide, 3, 32)[0, 2].min(0)[0] > 240, "nothing is cut off above"


def test_opacity_is_laid_on_white(tmp_path):
    clear = half_red((32, 32), 4)
    clear[:, 16:, :, 3] = 0
    files = [
        film(tmp_path / "a.mov", clear, codec="qtrle", format="argb"),
        film(tmp_path / "a.webm", clear, codec="libvpx-vp9", format="yuva420p"),
        animation(tmp_path / "a.webp", clear),
        animation(tmp_path / "a.gif", clear),
        sequence(tmp_path / "a", clear),
    ]
    for path in files:
        clip = read_clip(path, 3, 32)
        assert clip[:, 24:].min() > 250, path.name
        assert clip[:, :8, :, 1].max() < 10, path.name


def test_ten_bits_are_read(tmp_path):
    deep = np.arange(4, dtype=np.uint16)[:, None, None].repeat(16, 1).repeat(16, 2) * 256
    path = film(tmp_path / "a.mkv", deep, codec="ffv1", format="gray10le")
    assert [round(float(frame.mean()) / 64) for frame in read_clip(path, 4, 16)] == [0, 1, 2, 3]


@pytest.mark.parametrize("format", ["yuv420p10le", "yuv444p10le"])
def test_ten_bits_of_cameras_are_read(tmp_path, format):
    """H.264 of profile High 10: the usual file of ten bits, also at half the resolution of colors."""
    path = film(tmp_path / "a.mp4", counting(6), format=format)
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == format
    clip = read_clip(path, 6, 32)
    assert numbers(clip) == list(range(6))
    assert abs(clip.astype(int) - counting(6)).max() <= 2


def test_damage_is_named(tmp_path):
    whole = film(tmp_path / "whole.mp4", counting(12))
    content = whole.read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "text.webm").write_text("no clip")
    header(tmp_path / "header.mp4")
    sound(tmp_path / "sound.mp4")
    for name, reason in {
        "truncated.mp4": "it is no video, or damaged", "text.webm": "it is no video, or damaged",
        "empty.mp4": "it is empty", "empty.gif": "it is empty", "header.mp4": "",
    }.items():  # fmt: skip
        words = f"{name} is not a clip that can be read: {reason}" if reason else "has 0 frames, 1 is needed"
        with pytest.raises(ArzooError, match=words) as refused:
            read_clip(tmp_path / name, 1, 16)
        assert "Errno" not in str(refused.value), name
    with pytest.raises(ArzooError, match="it has no pictures, only sound"):
        read_clip(tmp_path / "sound.mp4", 1, 16)
    webm = film(tmp_path / "whole.webm", counting(20), codec="libvpx-vp9").read_bytes()
    (tmp_path / "cut.webm").write_bytes(webm[: len(webm) // 2])
    with pytest.raises(
        ArzooError, match=r"cut\.webm is not a clip that can be read: it ends after .* of 2 seconds"
    ):
        read_clip(tmp_path / "cut.webm", 20, 16)
    one = film(tmp_path / "one.mp4", counting(1))
    with pytest.raises(ArzooError, match="has 1 frame, 2 are needed"):
        read_clip(one, 2, 16)
    with pytest.raises(ArzooError, match="there is no file or folder"):
        read_clip(tmp_path / "none.mp4", 1, 16)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ArzooError, match=r"is no clip: files of \.avi, \.gif"):
        read_clip(tmp_path / "a.txt", 1, 16)
    for options, message in (
        ({"fps": 0}, "above 0"),
        ({"start": -1}, "0 seconds or more"),
        ({"frames": 0}, "least 1"),
    ):
        with pytest.raises(ArzooError, match=message):
            read_clip(whole, **{"frames": 1, "size": 16} | options)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", counting(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage, match=r"pip install 'arzoo\[video\]'"):
        read_clip(path, 1, 16)
    assert len(read_clip(animation(tmp_path / "a.gif", counting(2)), 2, 16)) == 2


def test_long_files_are_streamed():
    alive, drawn = weakref.WeakSet(), []

    class Pixels:
        def __init__(self, number):
            self.number = number
            alive.add(self)

        def picture(self):
            drawn.append(self.number)
            return Image.new("RGB", (4, 4), (self.number % 256,) * 3)

    def frames():
        for number in range(10_000):
            yield Frame(Fraction(number, 10), Fraction(1, 10), Fraction(1, 1000), Pixels(number).picture)
            assert len(alive) <= 2

    gc.collect()
    firsts = [int(clip[0, 0, 0, 0]) for clip in clips_of(resampled(frames(), None), 4, 4, 1000)]
    assert firsts == [number % 256 for number in range(0, 10_000, 1000)]
    assert len(drawn) == 40, "frames between the clips are not converted"
    overlapping = [int(clip[0, 0, 0, 0]) for clip in clips_of(resampled(frames(), 1), 4, 4, 2)]
    assert overlapping == [number % 256 for number in range(0, 10_000 - 30, 20)]
