"""The scripts that draw the files of documented commands."""

import random

import numpy as np
import pytest
from PIL import Image
from scripted import ROOT, scripts

with scripts("scripts/dev") as load:
    examples, own_clips = load("examples"), load("own_clips")


def test_the_shipped_photo_is_what_the_script_draws():
    with Image.open(ROOT / "examples" / "photo.png") as photo:
        shipped = np.asarray(photo.convert("RGB")).astype(int)
    drawn = np.asarray(examples.scene()).astype(int)
    assert shipped.shape == (240, 320, 3)
    assert np.abs(shipped - drawn).mean() < 3  # the file has 128 colors
    assert (ROOT / "examples" / "photo.png").stat().st_size < 60_000


def test_the_shipped_clip_is_what_the_script_draws():
    av = pytest.importorskip("av")
    with av.open(str(ROOT / "examples" / "clip.mp4")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    drawn = own_clips.clip("bouncing", random.Random(7)).astype(int)
    halved = frames.reshape(len(frames), 64, 2, 64, 2, 3).mean((2, 4))
    assert halved.shape == drawn.shape
    assert np.abs(halved - drawn).mean() < 3
    assert (ROOT / "examples" / "clip.mp4").stat().st_size < 60_000


def test_clips_of_a_seed_are_the_same_and_move(tmp_path):
    for folder in ("once", "again"):
        own_clips.write(tmp_path / folder, count=2, suffix=".webp")
    once, again = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.webp")}
        for name in ("once", "again")
    )
    assert once == again
    assert {str(path) for path in once} == {
        f"{name}/0{i}.webp" for name in ("bouncing", "turning") for i in (0, 1)
    }
    assert len(set(once.values())) == 4
    clip = own_clips.clip("turning", random.Random(0)).astype(int)
    assert clip.shape == (34, 64, 64, 3)
    assert (np.abs(np.diff(clip, axis=0)).max((1, 2, 3)) > 50).all()
