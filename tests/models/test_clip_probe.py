"""The shipped network of clips sees what happens in time, and what frames look like."""

from __future__ import annotations

import functools
import json

import pytest
import torch
import torch.nn.functional as F

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.metrics.scores.frechet import Statistics, frechet_distance
from arzoo.models.vision.clip_probe import SIDE, WEIGHTS, ClipNetwork, ClipProbe, motion
from arzoo.models.vision.features import DEFAULT_OF_CLIPS, feature_net

GAMES = ("beam_rider", "enduro", "kaboom", "riverraid", "seaquest", "space_invaders")
FRAMES, EACH = 17, 8


def test_motion_changes_its_sign_when_a_clip_is_reversed():
    maps = torch.rand(2, 3, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(motion(maps.flip(2)), -motion(maps), rtol=1e-4, atol=1e-7)
    blob = F.pad(torch.ones(1, 1, 1, 2, 2), (2, 8, 5, 5))
    to_the_right = torch.cat([blob.roll(step, 4) for step in range(5)], 2)
    change, right, down = motion(to_the_right)[0]
    assert (float(change), float(down)) == (0, 0)
    assert float(right) < 0 < float(motion(to_the_right.flip(4))[0, 1])  # what lies to the right arrives here


def test_the_shipped_file_is_the_one_of_its_record():
    record = json.loads((WEIGHTS.parent / "record.json").read_text())
    assert record["sha256"] == file_sha256(WEIGHTS)
    assert WEIGHTS.stat().st_size < 1_200_000
    card = (WEIGHTS.parent / "README.md").read_text()
    assert record["command"] in card
    assert f"seed: {record['seed']}" in card
    assert record["parameters"] == sum(value.numel() for value in ClipNetwork(97).parameters())


def test_clips_of_any_size_and_length():
    net = feature_net(DEFAULT_OF_CLIPS)
    clips = torch.randint(
        0, 256, (5, 3, 20, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    together = net(clips).pooled
    assert together.shape == (5, net.width)
    torch.testing.assert_close(torch.cat([net(clip[None]).pooled for clip in clips]), together)
    with pytest.raises(ArzooError, match="at least 2 frames"):
        net(clips[:, :1])


def test_other_weights_are_refused(tmp_path):
    with pytest.raises(ArzooError, match="does not hold the weights of clip_probe"):
        ClipProbe(str(tmp_path / "none.safetensors"))


@functools.cache
def games():
    """Two halves of clips of a few games, each game as often in both."""
    pytest.importorskip("ale_py")
    from PIL import Image

    from arzoo.data.atari import Atari

    clips = []
    for game in GAMES:
        player = Atari(game)
        for _ in range(2 * EACH):
            player.begin()
            frames = [player.act() for _ in range(FRAMES)]
            small = [Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BOX) for frame in frames]
            clips.append(
                torch.stack([torch.frombuffer(bytearray(x.tobytes()), dtype=torch.uint8) for x in small])
            )
    pixels = torch.stack(clips).view(-1, FRAMES, SIDE, SIDE, 3)
    return pixels[::2], pixels[1::2]


@functools.cache
def reference():
    return Statistics.of(feature_net(DEFAULT_OF_CLIPS)(games()[0]).pooled)


def distance(clips):
    return frechet_distance(reference(), Statistics.of(feature_net(DEFAULT_OF_CLIPS)(clips).pooled))


def shuffled(clips):
    rng = torch.Generator().manual_seed(0)
    return torch.stack([clip[torch.randperm(FRAMES, generator=rng)] for clip in clips])


def noisy(clips):
    noise = 8 * torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return (clips + noise).round().clamp(0, 255).to(torch.uint8)


WRONG = {
    "reversed": (lambda clips: clips.flip(1), 8),
    "frozen": (lambda clips: clips[:, :1].expand(-1, FRAMES, -1, -1, -1), 8),
    "shuffled": (shuffled, 4),
    "half speed": (lambda clips: clips[:, torch.arange(FRAMES) // 2], 1.8),
    "noisy": (noisy, 3),
}
"""Changes of clips, and how many times as far as other clips they are at least: about a third of what was measured."""


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_clips_are_far_and_other_clips_near(wrong):
    half = games()[1]
    change, times = WRONG[wrong]
    assert distance(change(half)) > times * distance(half)
