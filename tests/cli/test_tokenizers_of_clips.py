"""`arzoo tokenize` and `reconstruct` with a tokenizer of clips: data sets, animations, folders of frames, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import command, failing, picture
from PIL import Image

from arzoo.base import registry
from arzoo.checkpoints.folder import save_parts
from arzoo.data.base import ImageSet
from arzoo.data.codes import Codes
from arzoo.metrics.rate import Rate
from arzoo.metrics.scores.reconstruction import psnr
from arzoo.metrics.strips import strips
from arzoo.tokenizers.omnitok.presets import omnitok_micro


def ten_clips() -> ImageSet:
    """A data set of ten clips of 5 frames in two classes."""
    images = torch.randint(0, 256, (10, 5, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    rows = torch.arange(10)
    return ImageSet("moving", images.to(torch.uint8), rows % 2, ("even", "odd"), rows >= 8)


@pytest.fixture
def tokenizer(tmp_path, monkeypatch) -> Path:
    monkeypatch.setitem(registry._entries["dataset"], "moving", ten_clips)
    torch.manual_seed(0)
    model = omnitok_micro().build()
    save_parts(tmp_path / "tok", "tokenizer", {"tokenizer": model}, spec=model.spec.to_dict())
    return tmp_path / "tok"


def animation(path: Path, frames: int = 7) -> Path:
    """A lossless animation of colored noise."""
    rng = np.random.default_rng(frames)
    pictures = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], lossless=True)
    return path


def test_tokenize(capsys, tokenizer, tmp_path):
    options = ["tokenize", "moving", "--tokenizer", tokenizer, "--variants", 1, "--views", "augment"]
    shown = command(capsys, *options, "--out", tmp_path / "codes").out
    assert "train: 8 clips in 2 views, 32 tokens each" in shown
    assert "picture" not in shown
    codes = Codes.load(tmp_path / "codes" / "train")
    assert codes.spec.layout.shape == (2, 4, 4)
    assert command(capsys, *options, "--out", tmp_path / "none", "--dry-run").status == 0
    other = ["tokenize", "emoji32", "--tokenizer", tokenizer, "--out", tmp_path / "x"]
    failing(command(capsys, *other), "emoji32 has pictures", "clips of 5 frames are needed")


def test_reconstruct_clips_of_a_data_set(capsys, tokenizer, tmp_path):
    options = ["reconstruct", "moving", "--tokenizer", tokenizer, "--out", tmp_path / "out"]
    result = command(capsys, *options, "--json").json
    names = ["0000_moving even 0.png", "0001_moving odd 1.png"]
    assert [Path(entry["file"]).name for entry in result["pictures"]] == names
    assert result["mean_tokens"] == 32
    sheet = Image.open(result["pictures"][0]["file"])
    assert sheet.width == 5 * (16 * 6 + 2) + 2, "a row is a clip"
    assert sheet.height > 2 * 16 * 6, "and its reconstruction is the row below"
    assert command(capsys, *options, "--overwrite", "--dry-run").status == 0


def test_reconstruct_files(capsys, tokenizer, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(5):
        picture(frames / f"{i:02d}.png", seed=i)
    animation(tmp_path / "clip.webp")
    (tmp_path / "several" / "sub").mkdir(parents=True)
    for name, count in (("a.gif", 6), ("b.webp", 3), ("sub/c.webp", 5)):
        animation(tmp_path / "several" / name, count)
    options = ["reconstruct", "--tokenizer", tokenizer, "--json", "--out", tmp_path / "out", "--overwrite"]
    clips = command(capsys, *options, frames, tmp_path / "clip.webp").json["pictures"]
    assert [Path(entry["picture"]).name for entry in clips] == ["frames", "clip.webp"]
    result = command(capsys, *options, tmp_path / "several")
    assert [Path(entry["picture"]).name for entry in result.json["pictures"]] == ["a.gif", "c.webp"]
    assert "skipped 1 clips that cannot be read" in result.err
    assert "b.webp has 3 frames, 5 are needed" in result.err
    still = command(capsys, *options, frames / "00.png").json
    assert still["mean_tokens"] == 16, "a picture is a clip of one frame"
    failing(command(capsys, *options, tmp_path / "several" / "b.webp"), "has 3 frames, 5 are needed")
    failing(command(capsys, *options, frames / "00.png", tmp_path / "clip.webp"), "00.png is no clip")
    (tmp_path / "empty").mkdir()
    failing(command(capsys, *options, tmp_path / "empty"), "holds no clip", ".mp4")


def test_figures_of_a_clip_are_means_over_its_frames():
    torch.manual_seed(0)
    clips = ten_clips().images[:3]
    result = strips(omnitok_micro().build().eval(), clips, [Rate()], batch=2)
    assert result.rebuilt.shape == (3, 1, 5, 16, 16, 3)
    by_frame = torch.stack([psnr(result.rebuilt[1, 0, t][None], clips[1, t][None]) for t in range(5)])
    torch.testing.assert_close(result.psnr[1, 0], by_frame.mean())
