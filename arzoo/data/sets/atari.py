"""atari_clips: clips of Atari games under a random policy, recorded once into the cache.

A class is a game. An action is held for 4 frames, from which one frame is made. The emulator is GPL-2.0 and the games
are third-party works: clips are recorded on the user's machine and never shipped.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

from arzoo.base.errors import require
from arzoo.base.registry import register
from arzoo.data.base import ImageSet
from arzoo.data.clip_folder import FRAMES
from arzoo.data.episodes import Recording, recorded

_VERSION = "0.12.1"
"""Version of ale-py that the hash belongs to."""
_SHA256 = "084e829890b79e748430ce907139b372927e991014da4ec799dd366da883c332"
"""Hash of the clips of 17 frames of 64 x 64."""
FPS = 60 / 4
"""Frames per second: one in 4 of the emulator's 60."""
_TWELVE_SHA256 = "0f7f6c4c54b2956e7d72ace9e2e44fdd610f56c005d5c1bbd3e119d25494e615"
"""The same of `atari12_clips`."""
TWELVE = (
    "boxing", "breakout", "enduro", "fishing_derby", "freeway", "ms_pacman", "pong", "qbert", "riverraid", "seaquest",
    "space_invaders", "tennis",
)  # fmt: skip
"""Games of `atari12_clips`: known, unlike each other, and lively under a random policy."""
EPISODES = 60
"""Episodes of a game of `atari12_clips`."""
_ENDING = {"combat", "joust", "maze_craze", "warlords"}
"""Games for two players, which end the process."""


@register("dataset")
def atari_clips(size: int = 64, frames: int = FRAMES) -> ImageSet:
    """Load 2.9 thousand clips of 97 Atari games, 17 frames of 64 x 64; needs the extra `video`."""
    games = tuple(sorted(set(require("ale_py.roms", "video").get_all_rom_ids()) - _ENDING))
    return _recorded(Recording("atari_clips", "arzoo.data.atari", games, "ale-py", 1), _SHA256, size, frames)


@register("dataset")
def atari12_clips(size: int = 64, frames: int = FRAMES) -> ImageSet:
    """Load 2.2 thousand clips of 12 of the games, for models that train on a CPU; needs the extra `video`."""
    require("ale_py.roms", "video")
    recording = Recording("atari12_clips", "arzoo.data.atari", TWELVE, "ale-py", 1, EPISODES)
    return _recorded(recording, _TWELVE_SHA256, size, frames)


def _recorded(recording: Recording, sha256: str, size: int, frames: int) -> ImageSet:
    """Load clips, with a warning if those of the default size differ from what was hashed."""
    data, index = recorded(recording, size, frames)
    if index["shape"][1:3] == [FRAMES, 64] and index["sha256"] != sha256:
        warnings.warn(
            f"{recording.name} differs from the clips the shipped models were trained on: ale-py {index['version']} "
            f"(expected {_VERSION}). Figures measured on it are not comparable with published ones.",
            stacklevel=3,
        )
    return replace(data, fps=FPS)
