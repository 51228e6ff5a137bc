"""Small clip files for tests: videos, animations and folders of numbered pictures."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STEP = 12
"""Difference in brightness between a frame of `counting` and the next one."""


def counting(frames: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Frames (T, H, W, 3) of one gray each, by which they can be told apart."""
    greys = np.arange(frames, dtype=np.uint8) % 20 * STEP
    return np.broadcast_to(greys[:, None, None, None], (frames, *size, 3)).copy()


def numbers(clip: np.ndarray) -> list[int]:
    """Numbers of frames of `counting`."""
    return [round(float(frame.mean()) / STEP) for frame in clip]


def film(
    path: Path,
    clip: np.ndarray,
    fps: int = 10,
    codec: str = "libx264",
    format: str = "yuv444p",
    seconds: Sequence[float] = (),
    turn: int = 0,
    pixel: Fraction | None = None,
    **options: str,
) -> Path:
    """Write a video of frames (T, H, W, 3 or 4) uint8, or (T, H, W) uint16 for formats of one number per pixel.

    Args:
        path: The file.
        clip: The frames.
        fps: Frames per second.
        codec: Codec of FFmpeg.
        format: Format of its pixels.
        seconds: When each frame appears, in place of `fps`.
        turn: Degrees, counter-clockwise, by which players turn the pictures.
        pixel: Width of a pixel in units of its height.
        **options: Options of the codec.
    """
    import av

    given = {3: "rgb24", 4: "rgba"}.get(clip.shape[-1], format) if clip.ndim == 4 else format
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1], format
        if seconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turn:
            stream.set_display_rotation(turn)
        if pixel:
            stream.codec_context.sample_aspect_ratio = pixel
        for i, pixels in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=given)
            if seconds:
                frame.pts, frame.time_base = round(seconds[i] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def header(path: Path) -> Path:
    """Write a video of which nothing but the header was written."""
    import av

    with av.open(str(path), "w", options={"movflags": "empty_moov+frag_keyframe"}) as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    return path


def animation(path: Path, clip: np.ndarray, milliseconds: int | list[int] = 100) -> Path:
    """Write a gif, or a lossless webp."""
    first, *rest = [Image.fromarray(frame) for frame in clip]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, **options)
    return path


def sequence(folder: Path, clip: np.ndarray, name: str = "frame_{}.png") -> Path:
    """Write a folder of numbered pictures."""
    folder.mkdir(parents=True)
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / name.format(i))
    return folder


def sound(path: Path) -> Path:
    """Write a file with sound and no pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
