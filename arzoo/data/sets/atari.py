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
_ENDING = {"combat", "joust", "maze_craze", "warlords"}
"""Games for two players, which end the process."""


@register("dataset")
def atari_clips(size: int = 64, frames: int = FRAMES) -> ImageSet:
    """Load 2.9 thousand clips of 97 Atari games, 17 frames of 64 x 64; needs the extra `video`."""
    games = tuple(sorted(set(require("ale_py.roms", "video").get_all_rom_ids()) - _ENDING))
    data, index = recorded(Recording("atari_clips", "arzoo.data.atari", games, "ale-py", 1), size, frames)
    if index["shape"][1:3] == [FRAMES, 64] and index["sha256"] != _SHA256:
        warnings.warn(
            f"atari_clips differs from the clips the shipped models were trained on: ale-py {index['version']} "
            f"(expected {_VERSION}). Figures measured on it are not comparable with published ones.",
            stacklevel=3,
        )
    return replace(data, fps=FPS)
