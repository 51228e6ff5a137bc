"""Decoding of picture files: one rule for colors, opacity, brightness and size, for all readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MAX_PIXELS = 1 << 26
"""Larger pictures are refused: a small file can hold a picture that fills the memory."""
_LONGEST = 16
"""Largest ratio of sides; of a longer picture, only the middle is resized."""
_CLEAR = 16
"""If the brightest float is above this, white is 255; between 1 and this, white may be 1 or 255."""


class NoBrightness(ValueError):
    """The values of a picture are not a brightness: they would be clipped or become black."""


def read_rgb(path: Path) -> Image.Image:
    """Read a picture in its own size: upright, on a white background, the first frame of an animation.

    Raises:
        OSError: The file is damaged or not a picture.
        ValueError: The picture is too large, damaged, of a mode without colors, or its values are not a brightness.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} is more than {MAX_PIXELS} pixels")
            opened.load()
            return rgb(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # decoders raise errors of any kind for damaged files
        raise ValueError(f"damaged or too large ({type(error).__name__}: {error})") from error


def read_sized(path: Path, height: int, width: int) -> np.ndarray:
    """Read a picture as (height, width, 3) uint8, on a white background, see `sized`.

    Raises:
        OSError: The file is damaged or not a picture.
        ValueError: As for `read_rgb`.
    """
    return sized(read_rgb(path), height, width)


def read_resized(path: Path, height: int, width: int) -> np.ndarray:
    """Read a picture as (height, width, 3) uint8, on a white background, see `resized`.

    Raises:
        OSError: The file is damaged or not a picture.
        ValueError: As for `read_rgb`.
    """
    return resized(read_rgb(path), height, width)


def resized(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the whole of an RGB picture as (height, width, 3) uint8, halved like `sized`, then resized bicubically."""
    image = _halved(image, height, width)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def sized(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Return an RGB picture as (height, width, 3) uint8: resized to cover that size, center cropped.

    Pictures at least twice as large are halved by box averaging first and then resized bicubically, as in the
    preparation of ImageNet for "Diffusion Models Beat GANs on Image Synthesis", 2021.
    """
    image = _halved(_shorten(image), height, width)
    scale = max(width / image.width, height / image.height)
    covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize(covering, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def _halved(image: Image.Image, height: int, width: int) -> Image.Image:
    """Average boxes of four pixels while both sides stay at least as large."""
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image


def rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: grays of 16 and 32 bits are scaled, opacity is laid on white."""
    if image.mode.startswith(("I", "F")):
        grey = np.asarray(image, dtype=np.float64)
        return Image.fromarray(
            (grey / _white(image.mode, grey) * 255).clip(0, 255).round().astype(np.uint8)
        ).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        drawing = image.convert("RGBA")
        paper = Image.new("RGBA", drawing.size, "white")
        return Image.alpha_composite(paper, drawing).convert("RGB")
    return image.convert("RGB")


def _white(mode: str, grey: np.ndarray) -> float:
    """Return the value of white: defined for 16-bit modes, derived from the brightest pixel for 32-bit ones.

    Raises:
        NoBrightness: The values are out of range, or the brightest one is ambiguous.
    """
    if mode.startswith("I;16"):
        return 65535.0
    if not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 65535:
        raise NoBrightness(
            f"has values from {grey.min():g} to {grey.max():g}, a brightness is a number of at least 0 and at most "
            "65535. Scale the pictures to 0..255, round and store them as 8 bits."
        )
    brightest = float(grey.max())
    if mode == "F" and brightest <= 1:
        return 1.0
    if 1 < brightest < _CLEAR and (grey != grey.round()).any():
        raise NoBrightness(
            f"has {brightest:g} as its brightest value: white may be 1 or 255. Scale the pictures to 0..255, round and "
            "store them as 8 bits."
        )
    return 255.0 if brightest <= 255 else 65535.0


def _shorten(image: Image.Image) -> Image.Image:
    """Crop a very long picture to its middle, so that enlarging its short side cannot fill the memory."""
    (width, height), most = image.size, _LONGEST * min(image.size)
    cut_x, cut_y = max(width - most, 0) // 2, max(height - most, 0) // 2
    return image.crop((cut_x, cut_y, width - cut_x, height - cut_y)) if cut_x or cut_y else image
