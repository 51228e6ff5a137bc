"""Files of clips: what comes back, how long each frame is shown, and the settings they hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.data.clip_files import frames_of
from arzoo.viz.clips import FORMATS, clip_files, clip_sheet, write_clip, write_h264
from arzoo.viz.settings import settings_in, stored_text, twice_as_large

av = pytest.importorskip("av", reason="needs the extra 'video'")
SETTINGS = {"model": "nar", "prompt": "a “dog”\u2028 <b>", "seed": 3, "guidance": None, "fps": 8.0}


def game(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    """Single bright pixels and bars on dark ground, which move, as in games."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        clip[t, ::7, ::5] = (40, 90, 200)
        clip[t, (3 + t) % height, :: 1 + width // 9] = (255, 60, 0)
        clip[t, :, (2 * t) % width] = (30, 200, 70)
    return clip


def pillow(path) -> tuple[np.ndarray, list[int]]:
    """Frames of a file and the milliseconds that each is shown."""
    frames, durations = [], []
    with Image.open(path) as image:
        for t in range(getattr(image, "n_frames", 1)):
            image.seek(t)
            frames.append(np.asarray(image.convert("RGB")))  # decoding also reads the duration
            durations.append(image.info.get("duration", 0))
    return np.stack(frames), durations


def decoded(path) -> tuple[np.ndarray, float]:
    """Frames of an mp4 and their number per second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]), float(
            stream.average_rate
        )


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(one.astype(float) - other).mean())


def halved(clip: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    t, h, w, c = clip.shape
    return clip.reshape(t, h // 2, 2, w // 2, 2, c).astype(float).mean((2, 4))


@pytest.mark.parametrize("shape", [(6, 32, 48), (3, 33, 47), (1, 16, 16), (2, 1, 1)])
def test_mp4_keeps_the_colours_of_single_pixels(tmp_path, shape):
    clip = game(*shape)
    write_clip(tmp_path / "a.mp4", clip, 12.5, SETTINGS)
    frames, fps = decoded(tmp_path / "a.mp4")
    assert frames.shape == (shape[0], 2 * shape[1], 2 * shape[2], 3)
    assert fps == 12.5
    assert psnr(halved(frames), clip) > 36
    again = np.stack([np.asarray(frame.picture()) for frame in frames_of(tmp_path / "a.mp4")])
    assert again.shape == clip.shape, "read in its own size"
    assert psnr(again, clip) > 36
    write_clip(tmp_path / "b.mp4", clip, 12.5, SETTINGS, format="mp4-444")
    frames, _ = decoded(tmp_path / "b.mp4")
    assert frames.shape == clip.shape
    assert psnr(frames, clip) > 36


def test_only_files_of_the_size_that_was_written_are_halved(tmp_path):
    """Other programs copy descriptions into files of other sizes."""
    frames = [
        av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p") for frame in game()
    ]
    height, width = game().shape[1:3]
    for twice in (1, 2):
        described = twice_as_large(twice * width, twice * height)
        write_h264(tmp_path / "a.mp4", frames, Fraction(10), SETTINGS, described)
        size = next(iter(frames_of(tmp_path / "a.mp4"))).picture().size
        assert size == ((width, height) if twice == 2 else (width // 2, height // 2))


def test_mp4_says_how_its_colours_are_meant(tmp_path):
    write_clip(tmp_path / "a.mp4", game())
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert (frame.colorspace, frame.color_range, frame.format.name) == (1, 1, "yuv420p")
        assert stream.profile == "High", "High 4:4:4 Predictive is not played everywhere"
        assert stream.duration * stream.time_base == 6 / 8
    head = (tmp_path / "a.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "plays before all of it has arrived"


def test_webp_is_exact_and_equal_frames_are_one(tmp_path):
    clip = game()
    write_clip(tmp_path / "a.webp", clip, 30)
    frames, durations = pillow(tmp_path / "a.webp")
    assert np.array_equal(frames, clip)
    assert durations == [33, 34, 33, 33, 34, 33]
    write_clip(tmp_path / "b.webp", clip[[0, 0, 1, 1, 1, 2]], 30)
    frames, durations = pillow(tmp_path / "b.webp")
    assert np.array_equal(frames, clip[:3])
    assert durations == [67, 100, 33]
    noise = np.random.default_rng(0).integers(0, 256, (3, 17, 9, 3), dtype=np.uint8)
    write_clip(tmp_path / "c.webp", noise)
    assert np.array_equal(pillow(tmp_path / "c.webp")[0], noise)


def test_gif_is_exact_up_to_256_colours_and_keeps_time(tmp_path):
    clip = game()
    write_clip(tmp_path / "a.gif", clip, 8)
    frames, durations = pillow(tmp_path / "a.gif")
    assert np.array_equal(frames, clip)
    assert durations == [120, 130, 130, 120, 120, 130], "a total of 750 ms"
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    write_clip(tmp_path / "b.gif", noise)
    assert 20 < psnr(pillow(tmp_path / "b.gif")[0], noise) < 40
    with pytest.raises(ArzooError, match="60 frames per second do not fit in gif, which holds 0"):
        write_clip(tmp_path / "c.gif", clip, 60)


def test_frames_are_a_folder(tmp_path):
    clip = game()
    write_clip(tmp_path / "a", clip, settings=SETTINGS)
    files = [tmp_path / name for name in clip_files("a", "frames", len(clip))]
    assert files == sorted((tmp_path / "a").iterdir())
    assert all(
        np.array_equal(np.asarray(Image.open(path)), frame) for path, frame in zip(files, clip, strict=True)
    )
    assert settings_in(stored_text(files[3])) == SETTINGS


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [1, 4])
def test_every_format_holds_the_settings(tmp_path, format, count):
    (name,) = clip_files("a", format, 1)
    long = SETTINGS | {"prompt": SETTINGS["prompt"] * 500}
    write_clip(tmp_path / name.removesuffix("/00000.png"), game(count), settings=long, format=format)
    assert settings_in(stored_text(tmp_path / name)) == long


def test_comments_of_other_programs_are_no_settings(tmp_path):
    picture = Image.fromarray(game()[0])
    picture.save(tmp_path / "a.gif", comment=b"made by hand")
    picture.save(tmp_path / "a.webp")
    assert stored_text(tmp_path / "a.gif") is None
    assert stored_text(tmp_path / "a.webp") is None


def test_what_is_no_clip_is_refused(tmp_path):
    for wrong in (game()[0], game().astype(np.float32), game()[:0], game()[None]):
        with pytest.raises(ArzooError, match=r"\(T, H, W, 3\) uint8"):
            write_clip(tmp_path / "a.mp4", wrong)
    with pytest.raises(UnknownName, match=r"'\.avi'"):
        write_clip(tmp_path / "a.avi", game())
    for fps in (0, -1, float("nan"), 1000):
        with pytest.raises(ArzooError, match="frames per second"):
            write_clip(tmp_path / "a.mp4", game(), fps)
    assert not list(tmp_path.iterdir())


def test_the_sheet_has_a_row_per_clip_and_a_column_per_frame():
    clips = np.stack([game(), game()[::-1]])
    assert clip_sheet(clips).size == (6 * (96 + 2) + 2, 2 * (64 + 2) + 2)
    assert np.array_equal(np.asarray(clip_sheet(clips))[68:132:2, 2:98:2], clips[1, 0])
    assert clip_sheet(game(100)[None], most=5).size[0] == 5 * 98 + 2
    assert clip_sheet(game(32)[None]).size[0] == 32 * 50 + 2, "long rows are not enlarged"
    named = clip_sheet(clips, captions=["up", "down"])
    assert named.size[1] == 2 * (64 + 16 + 2) + 2
