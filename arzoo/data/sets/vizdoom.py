"""vizdoom_clips: clips of first-person scenarios under a random policy, recorded once into the cache.

A class is a scenario of ViZDoom. An action is held for 4 frames, of which the last one is kept. The pictures are those
of Freedoom, which is free.
"""

from __future__ import annotations

from dataclasses import replace

from arzoo.base.errors import require
from arzoo.base.registry import register
from arzoo.data.base import ImageSet
from arzoo.data.clip_folder import FRAMES
from arzoo.data.episodes import Recording, recorded

_SCENARIOS = (
    *("basic", "deadly_corridor", "deathmatch", "defend_the_center", "defend_the_line", "health_gathering"),
    *("health_gathering_supreme", "my_way_home", "take_cover"),
)
"""Scenarios for one player that look different and in which a random policy survives for a clip."""
_EPISODES = 60
FPS = 35 / 4
"""Frames per second: one in 4 of the game's 35."""


@register("dataset")
def vizdoom_clips(size: int = 64, frames: int = FRAMES) -> ImageSet:
    """Load 1.6 thousand first-person clips of ViZDoom, 17 frames of 64 x 64, 9 scenarios; needs the extra `video`."""
    require("vizdoom", "video")
    recording = Recording("vizdoom_clips", "arzoo.data.doom", _SCENARIOS, "vizdoom", 1, _EPISODES)
    return replace(recorded(recording, size, frames)[0], fps=FPS)
