#!/usr/bin/env bash
# Pillow stores equal frames in a row once, in WebP, GIF and APNG, so a file has fewer frames than were saved; a clip in which
# nothing moves becomes a still picture, in WebP without the time it was to be shown; no warning.
# Guess: n frames are saved, n frames are read, in a lossless format above all.
# Matters to: clips of models and games kept in such files: frames are counted wrongly, and frame 5 is another one.
source "$(dirname "$0")/environment.sh" pillow==13.0.0
python - <<'PY'
from PIL import Image

colours = ["red", "red", "green", "green", "green", "blue"]
FORMATS = {"WEBP": {"lossless": True}, "GIF": {}, "PNG": {}}


def saved(format: str, colours: list[str]) -> list[tuple[str, object]]:
    """What a file says of its frames: colour and milliseconds."""
    first, *rest = (Image.new("RGB", (8, 8), colour) for colour in colours)
    first.save("a", format, save_all=True, append_images=rest, duration=100, loop=0, **FORMATS[format])
    frames = []
    with Image.open("a") as image:
        for t in range(getattr(image, "n_frames", 1)):
            image.seek(t)
            frames.append((image.convert("RGB").getpixel((0, 0)), image.info.get("duration")))
    return frames


for format in FORMATS:
    frames, still = saved(format, colours), saved(format, ["red"] * 6)
    print(f"{format}: 6 frames of 100 ms are {len(frames)} of {[ms for _, ms in frames]}; 6 equal ones {len(still)} of {still[0][1]}")
    assert [ms for _, ms in frames] == [200, 300, 100], "all frames are kept now"
    assert len(still) == 1
assert not saved("WEBP", ["red"] * 6)[0][1], "the time is kept now"
PY
