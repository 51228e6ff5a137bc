#!/usr/bin/env bash
# FFmpeg's decoders of VP8 and VP9 leave out the opacity that WebM files store beside the picture, so PyAV gives clear places the
# colour below, here black; browsers show the page through. libvpx's decoder in the same package reads it.
# Guess: to_ndarray(format="rgba") has the opacity, as it has for mov files.
# Matters to: stickers and animations with a clear ground: it becomes dark.
source "$(dirname "$0")/environment.sh" av==18.1.0 numpy==2.4.6
python - <<'PY'
import av
import numpy as np

pixels = np.zeros((32, 32, 4), np.uint8)
pixels[:16] = 255  # white and opaque above, black and clear below
for name, codec, format in (("a.mov", "qtrle", "argb"), ("a.webm", "libvpx-vp9", "yuva420p")):
    with av.open(name, "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = format
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode())
opacity = {}
for name in ("a.mov", "a.webm"):
    with av.open(name) as container:
        frame = next(container.decode(video=0))
        opacity[name] = int(frame.to_ndarray(format="rgba")[24, 16, 3])
        print(name, container.streams.video[0].metadata.get("alpha_mode"), frame.format.name, opacity[name])
with av.open("a.webm") as container:
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    packet = next(container.demux(video=0))
    (frame,) = decoder.decode(packet) or decoder.decode(None)
    print("libvpx-vp9", frame.format.name, int(frame.to_ndarray(format="rgba")[24, 16, 3]))
assert opacity == {"a.mov": 0, "a.webm": 255}, "the opacity is read now"
PY
