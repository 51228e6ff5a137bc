"""Plays one game at random and writes what it shows.

A game that cannot run may end its process, so `arzoo.data.episodes` starts one for each game. Imports no torch.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Protocol

import numpy as np
from PIL import Image

HOLD = 4
"""Frames of a game for which an action is held, and from which one frame is made."""
_ATTEMPTS = 50
"""Clips that may be interrupted by the end of the game before it is given up."""


class Player(Protocol):
    """A game under a random policy, which plays a game in the same way every time."""

    def begin(self) -> None:
        """Begin an episode and play its first frames."""

    def act(self) -> np.ndarray | None:
        """Hold a random action for `HOLD` frames, and return the picture (H, W, 3) uint8; None if the game is over."""


def seed_of(game: str) -> int:
    """Return 31 bits of a hash of the name of a game."""
    return zlib.crc32(game.encode()) >> 1


def record(player: Player, size: int, frames: int, episodes: int, clips: int, out: str) -> None:
    """Write clips (episodes, clips, frames, size, size, 3) uint8, and the mean share of pixels that a step changes.

    Args:
        player: The game.
        size: Side in pixels.
        frames: Frames of a clip.
        episodes: Number of episodes.
        clips: Clips of an episode, which follow each other.
        out: An npz file.

    Raises:
        RuntimeError: Games are over too soon.
    """
    pixels, changed = np.empty((episodes, clips, frames, size, size, 3), np.uint8), []
    for episode in range(episodes):
        player.begin()
        for clip in range(clips):
            screens = _clip(player, frames)
            changed += [(a != b).any(-1).mean() for a, b in itertools.pairwise(screens)]
            for frame, screen in enumerate(screens):
                image = Image.fromarray(screen).resize((size, size), Image.Resampling.BOX)
                pixels[episode, clip, frame] = np.asarray(image)
    np.savez(out, pixels=pixels, changed=np.mean(changed))


def _clip(player: Player, frames: int) -> list[np.ndarray]:
    """Return the next frames; if the game ends meanwhile, those of another attempt in a new game."""
    for _ in range(_ATTEMPTS):
        screens: list[np.ndarray] = []
        while len(screens) < frames and (screen := player.act()) is not None:
            screens.append(screen)
        if len(screens) == frames:
            return screens
        player.begin()
    raise RuntimeError(f"{_ATTEMPTS} games were over before {frames} frames were played")
