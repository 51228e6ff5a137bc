"""The script that measures seams of long clips."""

import pytest
import torch
from greys import FRAMES, SIDE, Grey, GreyConfig, clip, saved
from scripted import scripts

from arzoo.base import registry
from arzoo.data.base import ImageSet


@pytest.fixture(scope="module")
def script():
    with scripts("scripts/dev") as load:
        yield load("seams")


def long_clips():
    images = torch.cat([clip(2 * FRAMES, seed) for seed in range(3)])
    return ImageSet("greys", images, torch.arange(3) % 2, ("a", "b"), torch.arange(3) > 0)


def test_windows_of_a_tokenizer(script):
    """Grays that are levels of the tokenizer are rebuilt exactly, also beside a seam."""
    clips = torch.full((1, 2 * FRAMES, SIDE, SIDE, 3), 51, dtype=torch.uint8)
    clips[:, FRAMES:] = 102
    seams = script.of_windows(Grey(GreyConfig()).eval(), clips)
    assert (seams.frames_at, seams.changes_at) == (100, 100)


@pytest.mark.parametrize("overlap", [1, 5])
def test_a_jump_where_a_clip_is_continued(script, overlap):
    clips = torch.zeros(1, FRAMES + 2 * (FRAMES - overlap), SIDE, SIDE, 3, dtype=torch.uint8)
    clips[:, FRAMES:] = 255
    seams = script.of_changes(clips, overlap, FRAMES)
    assert seams.changes_at == (0 + 100) / 2, "at one of two seams everything changes"
    assert seams.changes_inside == 100


def test_the_table(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry._entries["dataset"], "greys", long_clips)
    script.main([str(saved(tmp_path)), "--data", "greys"])
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head == "2 clips of greys, 2 windows of 9 frames; PSNR in dB"
    assert columns.split("  ")[-1] == "changes inside"
    assert [line.split("  ")[0] for line in lines if line[0] != "-"] == [
        "windows of the tokenizer", "drawn, overlap 1", "held out, the same places as 1", "drawn, overlap 5",
        "held out, the same places as 5",
    ]  # fmt: skip
