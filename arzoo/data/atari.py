"""Plays one Atari game: `python -m arzoo.data.atari GAME SIZE FRAMES EPISODES CLIPS OUT`, see `arzoo.data.playing`."""

from __future__ import annotations

import sys

import numpy as np

from arzoo.data.playing import HOLD, record, seed_of

WARM_UP = 50
"""Actions before the first clip of an episode, and after a game is over."""
STICKY = 0.25
"""Probability that the emulator repeats the last action."""


class Atari:
    """An Atari game, see `arzoo.data.playing.Player`."""

    def __init__(self, game: str) -> None:
        import ale_py.roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", seed_of(game))
        self.ale.setFloat("repeat_action_probability", STICKY)
        path = ale_py.roms.get_rom_path(game)
        assert path is not None
        self.ale.loadROM(path)
        self.actions, self.rng = self.ale.getMinimalActionSet(), np.random.default_rng(seed_of(game))

    def begin(self) -> None:
        """Begin an episode and play its first frames."""
        self.ale.reset_game()
        for _ in range(WARM_UP):
            self._hold()

    def act(self) -> np.ndarray | None:
        """Hold a random action for some frames, and return the picture; None if the game is over."""
        return None if self.ale.game_over() else self._hold()

    def _hold(self) -> np.ndarray:
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


if __name__ == "__main__":
    game, size, frames, episodes, clips, out = sys.argv[1:]
    record(Atari(game), int(size), int(frames), int(episodes), int(clips), out)
