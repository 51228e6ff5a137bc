"""Plays one scenario of ViZDoom: `python -m arzoo.data.doom SCENARIO SIZE FRAMES EPISODES CLIPS OUT`.

See `arzoo.data.playing`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from arzoo.data.playing import HOLD, record, seed_of

WARM_UP = 10
"""Actions before the first clip of an episode, and after a game is over."""
KEPT = 0.75
"""Probability that an action is followed by the same one, so that the player gets somewhere."""
TURN = 10.0
"""Largest change of an axis, such as a turn in degrees."""


class Doom:
    """A scenario of ViZDoom, see `arzoo.data.playing.Player`."""

    def __init__(self, scenario: str) -> None:
        import vizdoom

        self.game, self.rng = vizdoom.DoomGame(), np.random.default_rng(seed_of(scenario))
        self.game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario}.cfg"))
        self.game.set_window_visible(False)
        self.game.set_sound_enabled(False)
        self.game.set_mode(vizdoom.Mode.PLAYER)
        self.game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        self.game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        self.game.set_seed(seed_of(scenario))
        self.game.init()
        self.axes = np.array([button.name.endswith("DELTA") for button in self.game.get_available_buttons()])
        self.action = self._choose()

    def begin(self) -> None:
        """Begin an episode and play its first frames."""
        self.game.new_episode()
        for _ in range(WARM_UP):
            self.act()

    def act(self) -> np.ndarray | None:
        """Hold an action for some frames, the last one or another, and return the picture after them."""
        if self.rng.random() >= KEPT:
            self.action = self._choose()
        if self.game.is_episode_finished():
            return None
        self.game.make_action(self.action, HOLD)
        state = self.game.get_state()  # none if the episode has just ended
        return None if state is None else state.screen_buffer

    def _choose(self) -> list[float]:
        """One button, and all axes."""
        action = np.where(self.axes, self.rng.uniform(-TURN, TURN, len(self.axes)), 0)
        action[self.rng.choice(np.flatnonzero(~self.axes))] = 1
        return list(action)


if __name__ == "__main__":
    name, size, frames, episodes, clips, out = sys.argv[1:]
    target = Path(out).absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the game writes its settings into the working folder
        record(Doom(name), int(size), int(frames), int(episodes), int(clips), str(target))
        os.chdir(target.parent)  # Windows removes no working folder
