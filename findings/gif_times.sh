#!/usr/bin/env bash
# Pillow cuts the times of GIF frames to hundredths of a second, each for itself: 8 frames a second (125 ms) play at 8.3, 30 at
# 33.3, and 60 (16.7 ms) become frames of 10 ms, which browsers show for 100 ms, six times too long; no warning.
# Guess: times are rounded, and the clip has its length.
# Matters to: clips written as GIF to be compared by eye: they are faster than what was recorded, or far slower.
source "$(dirname "$0")/environment.sh" pillow==13.0.0
python - <<'PY'
from PIL import Image

for fps, expected in ((8, 120), (30, 30), (60, 10)):
    first, *rest = (Image.new("RGB", (8, 8), (t, 0, 0)) for t in range(fps))
    first.save("a.gif", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    times = []
    with Image.open("a.gif") as image:
        for t in range(image.n_frames):
            image.seek(t)
            times.append(image.info["duration"])
    print(f"{fps} frames of {1000 / fps:.1f} ms: {set(times)} ms each, {sum(times)} ms together")
    assert set(times) == {expected}, "times add up now"
PY
