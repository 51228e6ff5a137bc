#!/usr/bin/env bash
# PyAV: the colour matrix that is set on a stream is written into the file, but the frames are converted with another one (BT.601):
# red (255, 0, 0) comes back as (255, 24, 0); no warning.
# Guess: a stream that says BT.709 has colours in BT.709; the conversion from RGB inside `encode` follows the stream.
# Matters to: videos of models written with tags, as players ask for: all colours are off by up to 10 %, everywhere.
source "$(dirname "$0")/environment.sh" av==18.1.0 numpy==2.4.6
python - <<'PY'
import av
import numpy as np

BT709, LIMITED = 1, 1


def back(tagged: bool, converted: bool) -> list[int]:
    """The colour of a red picture after writing and reading."""
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (255, 0, 0), np.uint8), format="rgb24")
    if converted:
        frame = frame.reformat(format="yuv444p", dst_colorspace=BT709, dst_color_range=LIMITED)
    with av.open("a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        if tagged:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open("a.mp4") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")[0, 0].tolist()


colours = {"no tags": back(False, False), "tagged": back(True, False), "tagged and converted": back(True, True)}
print("red comes back as", colours)
off = {name: max(abs(a - b) for a, b in zip(colour, (255, 0, 0))) for name, colour in colours.items()}
assert off["no tags"] < 3
assert off["tagged and converted"] < 3
assert off["tagged"] > 10, "the tag converts now"
PY
