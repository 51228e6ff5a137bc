"""Decoding of clip files: videos through PyAV, animations through Pillow, and folders of numbered pictures.

Frames are read one after another, so a file may be of any length. A frame has the time at which it appears, so that
clips of another or of a variable frame rate are resampled by time, not by number.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256
from arzoo.base.registry import natural_key
from arzoo.data.reading import MAX_PIXELS, read_rgb, rgb, sized
from arzoo.data.reading import SUFFIXES as STILLS
from arzoo.viz.settings import twice_as_large

ANIMATIONS = frozenset({".gif", ".webp"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"})
SUFFIXES = ANIMATIONS | VIDEOS
PICTURES = STILLS - ANIMATIONS
"""Types of pictures of a folder that is a clip."""
_UNSAID = 100
"""Milliseconds of a frame of an animation whose duration is 0, as in browsers."""
_OPACITY = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the opacity of WebM files, in place of those that ignore it."""
_WHOLE = 0.9
"""Least share of its stated length at which a video is whole."""
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
_LONGEST = 16
"""Largest ratio of the sides of a pixel; a larger one is an error of the file and is ignored."""


@dataclass(frozen=True)
class Frame:
    """A frame of a clip.

    Attributes:
        start: Seconds from the first frame.
        duration: Seconds until the next frame.
        tick: Unit in seconds in which the file measures time: times are rounded to it.
        picture: Returns the upright RGB picture.
    """

    start: Fraction
    duration: Fraction
    tick: Fraction
    picture: Callable[[], Image.Image]


def read_clip(
    path: str | Path,
    frames: int,
    size: int | tuple[int, int],
    fps: float | None = None,
    start: float = 0.0,
) -> np.ndarray:
    """Read consecutive frames of a file, resized by the short side, their middle.

    Args:
        path: A video, an animation, or a folder of numbered pictures.
        frames: Number of frames.
        size: Side, or (H, W), in pixels.
        fps: Frames per second to which the file is resampled; by default every frame of the file, at whatever rate.
        start: Seconds from the beginning of the file. A folder has one picture per second unless `fps` says otherwise.

    Returns:
        (frames, H, W, 3) uint8.

    Raises:
        ArzooError: The file does not exist, is damaged, has no pictures, or is shorter.
        MissingPackage: PyAV is needed and not installed.
    """
    path, frames = Path(path), whole_number(frames, "the number of frames", 1)
    height, width = (size, size) if isinstance(size, int) else size
    if not path.exists():
        raise ArzooError(f"there is no file or folder {path}")
    if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        raise ArzooError(
            f"{path} is no clip: files of {', '.join(sorted(SUFFIXES))} are read, and folders of numbered pictures"
        )
    try:
        pictures = resampled(frames_of(path, fps), fps, start)
        clip = [sized(picture(), height, width) for picture in itertools.islice(pictures, frames)]
    except (OSError, ValueError) as error:
        if isinstance(error, ArzooError):
            raise
        raise ArzooError(f"{path} is not a clip that can be read: {error}") from error
    if len(clip) < frames:
        rate = "" if fps is None else f" at {fps:g} a second"
        after = f" after {start:g} s" if start else ""
        needed = f"{frames} {'are' if frames > 1 else 'is'} needed"
        if path.is_dir() and not numbered(path):
            needed += ". Its pictures are frames if there are some and the names of all end with a number"
        raise ArzooError(f"{path} has {counted(len(clip))}{rate}{after}, {needed}")
    return np.stack(clip)


def is_clip(path: Path) -> bool:
    """Return whether a path is read as a clip: a file of such a type, or a folder, whose pictures are numbered."""
    return path.suffix.lower() in SUFFIXES or path.is_dir()


def content_sha256(path: str | Path) -> str:
    """Hash a file, or the names and contents of the numbered pictures of a folder."""
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    frames = "".join(f"{frame.name} {file_sha256(frame)}\n" for frame in numbered(path))
    return hashlib.sha256(frames.encode()).hexdigest()


def counted(frames: int) -> str:
    """Return a number of frames with its noun."""
    return f"{frames} frame{'s' * (frames != 1)}"


def clips_of(
    pictures: Iterable[Callable[[], Image.Image]], frames: int, size: int, stride: int
) -> Iterator[np.ndarray]:
    """Yield clips (frames, size, size, 3) uint8 that begin `stride` pictures after each other; keeps one in memory."""
    window: deque[np.ndarray] = deque(maxlen=frames)
    for number, picture in enumerate(pictures):
        if stride < frames or number % stride < frames:
            window.append(sized(picture(), size, size))
        first = number - frames + 1
        if first >= 0 and first % stride == 0:
            yield np.stack(window)


def resampled(
    frames: Iterable[Frame], fps: float | None, start: float = 0.0
) -> Iterator[Callable[[], Image.Image]]:
    """Yield what is seen at the times start, start + 1 / fps, start + 2 / fps, ... until the last frame ends.

    Args:
        frames: The frames in their order.
        fps: Frames per second; None yields every frame once.
        start: Seconds from the first frame.

    Raises:
        ArzooError: Frames per second are not above 0, or the start is negative.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise ArzooError(f"frames per second must be above 0 and at most 1000, got {fps!r}")
    if not 0 <= start < float("inf"):
        raise ArzooError(f"a clip begins after 0 seconds or more, got {start!r}")
    moment = Fraction(start).limit_denominator(1_000_000)
    if fps is None:
        yield from (frame.picture for frame in frames if frame.start + frame.duration > moment)
        return
    step = 1 / Fraction(fps).limit_denominator(1001)
    for frame in frames:
        # Times are rounded to ticks: without an allowance a frame that appears a little late is missed once.
        end = frame.start + frame.duration - min(frame.tick, step / 4)
        while moment < end:
            yield frame.picture
            moment += step


def frames_of(path: Path, fps: float | None = None) -> Iterator[Frame]:
    """Yield the frames of a file, or of a folder with `fps` numbered pictures per second, by default one.

    Raises:
        OSError: The file is damaged or no clip.
        ValueError: The file is damaged, too large, or has no pictures.
        MissingPackage: PyAV is needed and not installed.
    """
    if not path.is_dir() and not path.stat().st_size:
        raise ValueError("it is empty")
    if path.is_dir():
        read = partial(_of_folder, path, 1 / Fraction(fps or 1).limit_denominator(1001))
    elif path.suffix.lower() in ANIMATIONS:
        read = partial(_of_animation, path)
    else:
        require("av", "video")
        read = partial(_of_video, path)
    try:
        yield from read()
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # decoders raise errors of any kind for damaged files
        raise ValueError(f"damaged ({type(error).__name__}: {error})") from error


def numbered(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of their numbers, if all names end with one; else nothing."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != "."]
    if not all(path.stem[-1].isdecimal() for path in files):
        return []
    return sorted(files, key=lambda path: natural_key(path.name))


def _of_folder(folder: Path, duration: Fraction) -> Iterator[Frame]:
    for number, path in enumerate(numbered(folder)):
        yield Frame(number * duration, duration, duration, partial(read_rgb, path))


def _of_animation(path: Path) -> Iterator[Frame]:
    start, tick = Fraction(0), Fraction(1, 100 if path.suffix.lower() == ".gif" else 1000)
    with Image.open(path) as image:
        _refuse_large(image.width, image.height)
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            duration = Fraction(int(image.info.get("duration", 0)) or _UNSAID, 1000)
            yield Frame(start, duration, tick, partial(rgb, image.copy()))
            start += duration


def _of_video(path: Path) -> Iterator[Frame]:
    av = require("av", "video")
    with plain_errors(av), av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures, only sound or text")
        stream = container.streams.video[0]
        _refuse_large(stream.width, stream.height)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        halved = container.metadata.get("description") == twice_as_large(stream.width, stream.height)
        waiting, first = None, None  # the duration of a frame is known when the next one comes
        for number, decoded in enumerate(_decoded(av, container, stream)):
            tick = decoded.time_base or 1 / rate
            time = decoded.pts * tick if decoded.pts is not None else number / rate
            first = time if first is None else first
            if waiting is not None:
                yield Frame(waiting[0], time - first - waiting[0], tick, waiting[1])
            waiting = time - first, partial(_upright, decoded, stream.sample_aspect_ratio, halved)
            last = decoded.duration * tick if decoded.duration else 1 / rate
        if waiting is not None:
            yield Frame(waiting[0], last, tick, waiting[1])
            end, length = waiting[0] + last, _length(stream)
            if end < _WHOLE * length:  # a WebM file that was cut off is read without an error
                raise ValueError(f"it ends after {float(end):.3g} of {float(length):.3g} seconds")


@contextmanager
def plain_errors(av: Any) -> Iterator[None]:
    """Say what a file is, in place of the numbers of FFmpeg's errors.

    Raises:
        OSError: The file cannot be opened, whatever is in it.
        ValueError: FFmpeg cannot read what is in the file.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except av.FFmpegError as error:
        raise ValueError(f"it is no video, or damaged ({error.strerror})") from error


def _length(stream: Any) -> Fraction:
    """Seconds of pictures that a file says it has; 0 if it does not say."""
    if stream.duration is not None:
        return Fraction(stream.duration * stream.time_base)
    stated = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))  # of Matroska and WebM
    if stated is None:
        return Fraction(0)
    hours, minutes, seconds = map(Fraction, stated.groups())
    return hours * 3600 + minutes * 60 + seconds


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; of a WebM file with opacity by the decoder that reads it."""
    name = _OPACITY.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") != "1" or name is None:
        yield from container.decode(stream)
        return
    decoder = av.CodecContext.create(name, "r")
    for packet in container.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _upright(decoded: Any, pixel: Fraction | None, halved: bool) -> Image.Image:
    """Convert a decoded frame to RGB, on white, with square pixels, of the size and turned as the file says."""
    if any(component.is_alpha for component in decoded.format.components):
        image = rgb(Image.fromarray(decoded.to_ndarray(format="rgba")))
    else:
        image = Image.fromarray(decoded.to_ndarray(format="rgb24"))
    if pixel and pixel != 1 and 1 / _LONGEST <= pixel <= _LONGEST:
        image = image.resize((max(1, round(image.width * pixel)), image.height), Image.Resampling.BICUBIC)
    if halved:
        image = image.reduce(2)
    turns = round(decoded.rotation / 90)
    return image.rotate(90 * turns, expand=True) if turns % 4 else image


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} is more than {MAX_PIXELS} pixels")
