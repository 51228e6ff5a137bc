"""Files of clips: formats with what each loses, and contact sheets with a column per frame.

Shapes: n clips, T frames, H x W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError, UnknownName, require
from arzoo.viz.grid import contact_sheet, legible_zoom
from arzoo.viz.settings import EXIF_DESCRIPTION, MP4, comment, twice_as_large, write_png

if TYPE_CHECKING:
    from torch import Tensor

H264 = "libx264"
CRF = "12"
"""Quality of H.264, from 0 without a loss to 51; at 12, what is lost is rounding and the colours of single pixels."""
BT709, LIMITED = 1, 1
"""Numbers of the colour matrix and of the range of brightness in H.264 and in FFmpeg."""
COLUMNS = 32
"""Most frames of a clip on a contact sheet."""
WIDEST = 1600
"""Pixels beyond which a row of frames is not enlarged."""

Write = Callable[[Path, np.ndarray, Fraction, dict[str, Any]], None]


@dataclass(frozen=True)
class ClipFormat:
    """A format of files.

    Attributes:
        suffix: End of their names; empty for a folder of frames.
        write: Writes a clip (T, H, W, 3) uint8 to a path, with its frames per second and settings.
        fastest: Most frames per second.
    """

    suffix: str
    write: Write
    fastest: int = 240


def write_clip(
    path: str | Path,
    clip: Tensor | np.ndarray,
    fps: float = 8,
    settings: dict[str, Any] | None = None,
    format: str | None = None,
) -> None:
    """Write a clip; its folder must exist.

    Args:
        path: The file, or the folder for `frames`.
        clip: (T, H, W, 3) uint8.
        fps: Frames per second.
        settings: Plain data, stored in the file, see `arzoo.viz.settings`.
        format: One of `FORMATS`; by default what the end of the name says, for a name without one `frames`.

    Raises:
        UnknownName: There is no such format.
        MissingPackage: The package that writes mp4 files is not installed.
        ArzooError: There is no frame, the shape or type is another, or the format does not hold so many frames per
            second.
    """
    path, frames = Path(path), np.asarray(clip)
    if format is None:
        format = next(
            (name for name, one in FORMATS.items() if one.suffix == path.suffix.lower()), path.suffix
        )
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ArzooError(
            f"a clip is (T, H, W, 3) uint8 with at least one frame; got {frames.shape} {frames.dtype}. A result of a "
            "generator holds several: write_clip(path, drawings[0])"
        )
    FORMATS[require_format(format, fps)].write(
        path, frames, Fraction(fps).limit_denominator(1001), settings or {}
    )


def require_format(name: str, fps: float) -> str:
    """Return the name of a format if there is one and it holds so many frames per second.

    Raises:
        UnknownName: There is no such format.
        ArzooError: The number of frames per second is not above 0, or too large for the format.
    """
    if name not in FORMATS:
        raise UnknownName("format of clips", name, FORMATS)
    most = FORMATS[name].fastest
    if not 0.1 <= fps <= most:
        why = (
            " (it counts hundredths of a second, and browsers slow down frames of one)"
            if name == "gif"
            else ""
        )
        raise ArzooError(f"{fps:g} frames per second do not fit in {name}, which holds 0.1 to {most}{why}")
    return name


def mp4_obstacle() -> str:
    """Return what is missing to write mp4 files, empty if nothing is."""
    try:
        import av
    except ImportError:
        return "the package av: pip install 'arzoo[video]'"
    if H264 not in av.codecs_available:
        return f"PyAV with the encoder {H264}, which this build lacks: pip install --force-reinstall --no-cache-dir av"
    return ""


def clip_files(name: str, format: str, frames: int) -> list[str]:
    """Return the names of the files of a clip of so many frames, whose name without an end is given."""
    suffix = FORMATS[format].suffix
    return [name + suffix] if suffix else [f"{name}/{_frame(t)}" for t in range(frames)]


def clip_sheet(
    clips: Tensor | np.ndarray, most: int = COLUMNS, captions: Sequence[str] | None = None
) -> Image.Image:
    """Arrange clips in rows, a column per frame.

    Args:
        clips: (n, T, H, W, 3) uint8.
        most: Most frames of a clip; of more, so many are shown, evenly spread.
        captions: Text below the first frame of each clip.
    """
    frames = np.asarray(clips)
    columns = np.linspace(0, frames.shape[1] - 1, min(frames.shape[1], most)).round().astype(int)
    return contact_sheet(
        frames[:, columns].reshape(-1, *frames.shape[2:]),
        columns=len(columns),
        zoom=max(1, min(legible_zoom(frames.shape[3]), WIDEST // (len(columns) * frames.shape[3]))),
        captions=captions and [text for each in captions for text in (each, *[""] * (len(columns) - 1))],
    )


def tiled(clips: Tensor | np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arrange clips (n, T, H, W, 3) uint8 in rows as one clip, whose frames are contact sheets."""
    frames = np.asarray(clips)
    return np.stack(
        [np.asarray(contact_sheet(frames[:, t], columns=columns, zoom=1)) for t in range(frames.shape[1])]
    )


def _frame(t: int) -> str:
    return f"{t:05d}.png"


def _write_frames(path: Path, clip: np.ndarray, fps: Fraction, settings: dict[str, Any]) -> None:
    """Write a folder of PNGs."""
    path.mkdir(exist_ok=True)
    for t, frame in enumerate(clip):
        write_png(path / _frame(t), frame, settings)


def _write_mp4(path: Path, clip: np.ndarray, fps: Fraction, settings: dict[str, Any]) -> None:
    """Write H.264 as browsers play it, which has colours in half the resolution (4:2:0).

    Every pixel is written as 2 x 2, so the colours keep the resolution of the clip. In its own size, small clips lose
    most of their colours at any quality (docs/video.md), and odd sizes cannot be written. The file says so, and
    `arzoo.data.clip_files` reads it in the size of the clip.
    """
    av = require("av", "video")

    def doubled(frame: np.ndarray) -> Any:
        luma, *colours = _yuv(frame)
        planes = [luma.repeat(2, 0).repeat(2, 1), *colours]
        rows = np.concatenate([plane.ravel() for plane in planes]).reshape(-1, 2 * luma.shape[1])
        return av.VideoFrame.from_ndarray(rows, format="yuv420p")

    description = twice_as_large(2 * clip.shape[2], 2 * clip.shape[1])
    write_h264(path, map(doubled, clip), fps, settings, description)


def _write_mp4_444(path: Path, clip: np.ndarray, fps: Fraction, settings: dict[str, Any]) -> None:
    """Write H.264 in the size of the clip with all colours (4:4:4), which not every browser plays."""
    av = require("av", "video")
    frames = (av.VideoFrame.from_ndarray(_yuv(frame), format="yuv444p") for frame in clip)
    write_h264(path, frames, fps, settings)


def _yuv(frame: np.ndarray) -> np.ndarray:
    """Convert a frame (H, W, 3) to brightness and two colours (3, H, W) uint8."""
    av = require("av", "video")
    whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return whole.reformat(format="yuv444p", dst_colorspace=BT709, dst_color_range=LIMITED).to_ndarray()


def write_h264(
    path: Path, frames: Iterable[Any], fps: Fraction, settings: dict[str, Any], description: str = ""
) -> None:
    """Write frames of one size and pixel format as H.264 in mp4, with the settings as comment."""
    av = require("av", "video")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata.update(comment=comment(settings), description=description)
        stream = container.add_stream(H264, rate=fps, options={"crf": CRF})
        context = stream.codec_context  # says how colours are meant; it does not convert them
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        for t, frame in enumerate(frames):
            if t == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_webp(path: Path, clip: np.ndarray, fps: Fraction, settings: dict[str, Any]) -> None:
    """Write lossless WebP. Equal frames in a row are stored once, for a longer time; one frame is a still picture."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = comment(settings)
    first, *rest = map(Image.fromarray, clip)
    first.save(
        path, "WEBP", save_all=True, append_images=rest, duration=_milliseconds(len(clip), fps, 1), loop=0,
        lossless=True, quality=100, exif=exif,
    )  # fmt: skip


def _write_gif(path: Path, clip: np.ndarray, fps: Fraction, settings: dict[str, Any]) -> None:
    """Write GIF, which has 256 colours a frame. Equal frames are stored as in WebP."""
    first, *rest = map(Image.fromarray, clip)
    first.save(
        path, "GIF", save_all=True, append_images=rest, duration=_milliseconds(len(clip), fps, 10), loop=0,
        comment=comment(settings).encode("ascii"),
    )  # fmt: skip


def _milliseconds(frames: int, fps: Fraction, unit: int) -> list[int]:
    """Return how long each frame is shown, in multiples of `unit` ms; none is ever late by more than half of it."""
    starts = [round(1000 * t / fps / unit) * unit for t in range(frames + 1)]
    return [end - start for start, end in itertools.pairwise(starts)]


FORMATS = {
    "mp4": ClipFormat(MP4, _write_mp4),
    "mp4-444": ClipFormat(MP4, _write_mp4_444),
    "webp": ClipFormat(".webp", _write_webp),
    "gif": ClipFormat(".gif", _write_gif, fastest=50),
    "frames": ClipFormat("", _write_frames),
}
