"""Plays one Atari game at random and writes what it shows.

A game that cannot run ends its process, so `arzoo.data.episodes` starts one for each game. Imports no torch.
"""

from __future__ import annotations

import itertools
import sys
import zlib

import numpy as np
from PIL import Image

HOLD = 4
"""Frames of the emulator for which an action is held, and from which one frame is made."""
WARM_UP = 50
"""Actions before the first clip of an episode, and after a game is over."""
STICKY = 0.25
"""Probability that the emulator repeats the last action."""
_ATTEMPTS = 50
"""Clips that may be interrupted by the end of the game before it is given up."""


class Player:
    """A game under a random policy, which plays a game in the same way every time."""

    def __init__(self, game: str) -> None:
        import ale_py.roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale, seed = ale_py.ALEInterface(), zlib.crc32(game.encode()) >> 1
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", STICKY)
        path = ale_py.roms.get_rom_path(game)
        assert path is not None
        self.ale.loadROM(path)
        self.actions, self.rng = self.ale.getMinimalActionSet(), np.random.default_rng(seed)

    def act(self) -> np.ndarray:
        """Hold a random action for some frames, and return the brighter pixels of the last two.

        Many games draw an object on every other frame only, as the console shows few of them at once; the maximum, as
        in "Human-level control through deep reinforcement learning", 2015, has them all.
        """
        action = self.actions[self.rng.integers(len(self.actions))]
        for _ in range(HOLD - 1):
            self.ale.act(action)
        screen = self.ale.getScreenRGB()
        self.ale.act(action)
        return np.maximum(screen, self.ale.getScreenRGB())

    def begin(self) -> None:
        """Begin an episode and play its first frames."""
        self.ale.reset_game()
        for _ in range(WARM_UP):
            self.act()

    def clip(self, frames: int) -> list[np.ndarray]:
        """Return the next frames; if the game ends meanwhile, those of another attempt in a new game."""
        for _ in range(_ATTEMPTS):
            screens: list[np.ndarray] = []
            while len(screens) < frames and not self.ale.game_over():
                screens.append(self.act())
            if len(screens) == frames:
                return screens
            self.begin()
        raise RuntimeError(f"{_ATTEMPTS} games were over before {frames} frames were played")


def main(game: str, size: int, frames: int, episodes: int, clips: int, out: str) -> None:
    """Write clips (episodes, clips, frames, size, size, 3) uint8, and the mean share of pixels that a step changes."""
    player, changed = Player(game), []
    pixels = np.empty((episodes, clips, frames, size, size, 3), np.uint8)
    for episode in range(episodes):
        player.begin()
        for clip in range(clips):
            screens = player.clip(frames)
            changed += [(a != b).any(-1).mean() for a, b in itertools.pairwise(screens)]
            for frame, screen in enumerate(screens):
                image = Image.fromarray(screen).resize((size, size), Image.Resampling.BOX)
                pixels[episode, clip, frame] = np.asarray(image)
    np.savez(out, pixels=pixels, changed=np.mean(changed))


if __name__ == "__main__":
    game, size, frames, episodes, clips, out = sys.argv[1:]
    main(game, int(size), int(frames), int(episodes), int(clips), out)
