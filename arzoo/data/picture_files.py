"""Picture files of a folder: which ones count, and what they say of themselves before they are decoded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.data.folder import SUFFIXES, hidden

GRID = "grid.png"
_UNREAD = frozenset(
    {".avif", ".exr", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".npy", ".pgm", ".ppm", ".tga"}
)
"""Pictures that are not read: samples among them would be missing without a word."""
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG"}
_OPACITY = "have an opacity channel: white was laid under them"
_DEEP = "have 16 bits a channel, 8 are scored"
_GUESSED = "have 32 bits a pixel: the brightest one told whether white is 1, 255 or 65535"
_PALETTE = "have a palette of at most 256 colours"
_FRAMES = "have several frames or pages: the first is scored"


@dataclass(frozen=True)
class Head:
    """What a file says of itself.

    Attributes:
        size: (H, W), upright.
        lossy_as: Format, if it was stored with loss, else empty.
        settings: Those that `arzoo generate` wrote into it.
        remarks: What is done to it that a reader of the scores should know.
    """

    size: tuple[int, int]
    lossy_as: str
    settings: dict[str, Any]
    remarks: tuple[str, ...]

    @property
    def guessed(self) -> bool:
        """Whether its values have no white of their own."""
        return _GUESSED in self.remarks


def head(path: Path) -> Head:
    """Size, format and settings of a picture, without decoding it.

    Raises:
        ArzooError: It is not one.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations that exchange the sides
            size = (image.width, image.height) if turned else (image.height, image.width)
            settings = json.loads(image.info.get("arzoo", "{}"))
            kind = _LOSSY.get(str(image.format), "")
            if image.format == "WEBP" and not _lossless_webp(path):
                kind = "lossy WebP"
            settings = settings if isinstance(settings, dict) else {}
            return Head(size, kind, settings, tuple(_remarks(image)))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise ArzooError(
            f"{path} is not a picture that can be read ({error}). Replace or remove it."
        ) from error


def told(folder: Path, heads: Sequence[Head]) -> list[str]:
    """Remarks about the pictures of a folder, each with how many it is of."""
    counts = Counter(remark for found in heads for remark in found.remarks)
    return [f"{count} of {len(heads)} pictures of {folder} {remark}" for remark, count in counts.items()]


def refuse_outside(path: Path) -> None:
    """Refuse a picture of numbers that are no brightness, which would be cut off or become black.

    Raises:
        ArzooError: It has numbers below 0, or that are not finite.
    """
    with Image.open(path) as image:
        values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ArzooError(
            f"{path} has values from {values.min():g} to {values.max():g}, a brightness is a number of at least 0. "
            "Scale the pictures to 0..255, round and store them as 8 bits."
        )


def files(folder: Path) -> tuple[list[Path], list[str]]:
    """Picture files in order, of `arzoo generate` those it recorded, and remarks on others that are left out."""
    found = [p for p in folder.rglob("*") if p.is_file() and not hidden(p.relative_to(folder))]
    unread = sorted({p.suffix.lower() for p in found if p.suffix.lower() in _UNREAD})
    count = sum(p.suffix.lower() in unread for p in found)
    notes = [f"{count} files of {folder} are left out, as {', '.join(unread)} are not read"] if unread else []
    found = sorted(p for p in found if p.suffix.lower() in SUFFIXES)
    recorded = _recorded(folder)
    if not recorded:
        return found, notes
    there = [path for path in recorded if path.is_file()]
    others = [path for path in found if path not in recorded and path.name != GRID]
    if len(there) < len(recorded):
        notes.append(f"{len(recorded) - len(there)} pictures that run.json of {folder} names are missing")
    if others:
        notes.append(f"{len(others)} pictures of {folder} are left out, as its run.json does not name them")
    return there, notes


def _recorded(folder: Path) -> list[Path]:
    """The pictures that run.json of a folder names, none without one."""
    try:
        recorded = json.loads((folder / "run.json").read_text(encoding="utf-8"))["files"]
        names = sorted(name for name in recorded if name != GRID and Path(name).suffix.lower() in SUFFIXES)
        return [folder / name for name in names if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _remarks(image: Image.Image) -> list[str]:
    codecs = [str(tile[3]) for tile in getattr(image, "tile", [])]
    found = {
        _OPACITY: image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        _DEEP: image.mode.startswith("I;16") or any(";16" in codec for codec in codecs),
        _GUESSED: image.mode in ("I", "F"),
        _PALETTE: image.mode == "P",
        _FRAMES: getattr(image, "is_animated", False),
    }
    return [remark for remark, holds in found.items() if holds]


def _lossless_webp(path: Path) -> bool:
    """Whether the first frame of a WebP file is a VP8L chunk, the lossless one."""
    with path.open("rb") as file:
        file.seek(12)  # behind RIFF, length, WEBP
        while len(head := file.read(8)) == 8:
            kind, length = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            # A frame of an animation has 16 bytes of its own before the chunks of its picture.
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False
