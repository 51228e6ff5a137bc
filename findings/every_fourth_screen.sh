#!/usr/bin/env bash
# Atari games draw some objects on every other frame only, as the console shows few at once. Whoever reads every fourth screen
# always meets the same half: Asteroids shows its score and nothing else; with frame_skip 4 too. The brighter pixels of two
# screens in a row, as DQN had them, show all.
# Guess: a screen shows what a player sees.
# Matters to: clips of games, and agents that see every fourth screen: what they should avoid is not there.
source "$(dirname "$0")/environment.sh" ale-py==0.12.1 numpy==2.4.6
python - <<'PY'
import ale_py.roms
import numpy as np

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
drawn = {}
for skip in (1, 4):
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 1)
    ale.setInt("frame_skip", skip)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path("asteroids"))
    last, both = [], []
    for _ in range(100):
        for _ in range(4 // skip):
            before = ale.getScreenRGB()
            ale.act(0)
        screen = ale.getScreenRGB()
        last.append(screen[20:].any(-1).mean())  # below the score
        both.append(np.maximum(before, screen)[20:].any(-1).mean())
    drawn[skip] = last
    print(f"frame_skip {skip}: {np.median(last):.2%} of the field is not black in every fourth screen")
    if skip == 1:
        print(f"              {np.median(both):.2%} in two screens in a row")
        assert np.median(both) > 10 * np.median(last), "every fourth screen shows the asteroids now"
assert np.median(drawn[4]) < 0.002, "frame_skip shows them now"
PY
