"""Image folders: a sub-folder a class, or all pictures in one folder, with optional captions.

Unreadable files are skipped, counted and reported, never silently dropped.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from arzoo.base.errors import ArzooError
from arzoo.data.base import ImageSet

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MAX_PIXELS = 1 << 26
"""Larger pictures are refused: a small file can hold a picture that fills the memory."""
_LONGEST = 16
"""Of a picture longer than this many times its short side, only the middle is resized."""
_HELD_OUT = 20
"""One picture in this many is held out for validation."""


def image_folder(folder: Path, size: int) -> ImageSet:
    """Read a folder of pictures.

    Classes are the sub-folders in alphabetical order; pictures that lie directly in the folder make one class.
    A caption is the text file beside a picture with the same stem, or its entry in `captions.json`
    ({file: caption}) or `captions.jsonl` (one {"file_name": ..., "text": ...} a line), where a file is named by
    its path from the folder or by its name alone.

    Args:
        folder: Where the pictures are.
        size: Side to which they are resized and cropped.

    Raises:
        ArzooError: The folder has no readable picture, the captions cannot be read, or the size is not positive.
    """
    if size < 1:
        raise ArzooError(f"pictures of side {size} do not exist; give a size of at least 1, such as 64")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not hidden(p.relative_to(folder)))
    files = [path for path in files if path.suffix.lower() in SUFFIXES]
    captions = _captions(folder)
    console = Console(stderr=True)
    images, names, kept, skipped, sides = [], [], [], [], []
    for path in track(
        files, f"reading {escape(folder.name)}", console=console, disable=not sys.stderr.isatty()
    ):
        try:
            images.append(read_square(path, size))
            with Image.open(path) as opened:
                sides += opened.size
        except (OSError, ValueError) as error:
            skipped.append(f"{path.relative_to(folder)}: {error}")
            continue
        relative = path.relative_to(folder)
        names.append(relative.parts[0] if len(relative.parts) > 1 else folder.name)
        kept.append(path)
    if not images:
        found = f"{len(files)} picture files, none readable ({skipped[0]})" if files else "no picture files"
        raise ArzooError(
            f"{folder} has {found}. Put pictures ({', '.join(sorted(SUFFIXES))}) there, in a sub-folder a class."
        )
    if skipped:
        warnings.warn(
            f"{folder}: skipped {len(skipped)} of {len(files)} pictures, the first: {skipped[0]}",
            stacklevel=2,
        )
    classes = tuple(sorted(set(names)))
    texts = tuple(_caption(path, folder, captions) for path in kept)
    return ImageSet(
        name=folder.name,
        images=torch.from_numpy(np.stack(images)),
        labels=torch.tensor([classes.index(name) for name in names]),
        classes=classes,
        held_out=_held_out([str(path.relative_to(folder)) for path in kept]),
        captions=texts if any(texts) else None,
        report=tuple(skipped),
        sides=(min(sides), max(sides)),
    )


def read_rgb(path: Path) -> Image.Image:
    """A picture of its own size, upright, opacity laid on white; the first frame of an animation.

    Raises:
        OSError: The file is damaged or no picture.
        ValueError: The picture is too large, damaged, or of a mode that has no colours.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} is more than {MAX_PIXELS} pixels")
            opened.load()
            return _rgb(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # decoders meet damaged files with errors of every kind
        raise ValueError(f"damaged or too large ({type(error).__name__}: {error})") from error


def read_square(path: Path, size: int) -> np.ndarray:
    """A picture as (size, size, 3) uint8: short side resized, centre cropped, opacity laid on white.

    Pictures at least twice as large are halved by box averaging first and then resized bicubically, as in the
    preparation of ImageNet for "Diffusion Models Beat GANs on Image Synthesis", 2021.

    Raises:
        OSError: The file is damaged or no picture.
        ValueError: The picture is too large.
    """
    image = _shorten(read_rgb(path))
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    wanted = max(size, round(image.width * scale)), max(size, round(image.height * scale))
    image = image.resize(wanted, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB; deep greys are scaled, opacity is laid on white."""
    if image.mode.startswith(("I", "F")):
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
        return Image.fromarray(
            (grey / _white(image.mode, grey.max()) * 255).clip(0, 255).round().astype(np.uint8)
        ).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        drawing = image.convert("RGBA")
        paper = Image.new("RGBA", drawing.size, "white")
        return Image.alpha_composite(paper, drawing).convert("RGB")
    return image.convert("RGB")


def _white(mode: str, brightest: float) -> float:
    """The value of white. 16-bit modes define it; for 32-bit integers and floats the brightest pixel tells."""
    if mode.startswith("I;16"):
        return 65535.0
    if mode == "F" and brightest <= 1:
        return 1.0
    return 255.0 if brightest <= 255 else 65535.0


def _shorten(image: Image.Image) -> Image.Image:
    """The middle of a very long picture, so that enlarging its short side cannot fill the memory."""
    (width, height), most = image.size, _LONGEST * min(image.size)
    cut_x, cut_y = max(width - most, 0) // 2, max(height - most, 0) // 2
    return image.crop((cut_x, cut_y, width - cut_x, height - cut_y)) if cut_x or cut_y else image


def hidden(path: Path) -> bool:
    """Whether a part of a path starts with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _captions(folder: Path) -> dict[str, str]:
    """Captions by file, from `captions.json` and `captions.jsonl`."""
    table: dict[str, str] = {}
    path = folder / "captions.json"
    try:
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            table.update((str(name), str(text)) for name, text in found.items())
        path = folder / "captions.jsonl"
        if path.exists():
            lines = [
                json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
            ]
            table.update((str(line["file_name"]), str(line["text"])) for line in lines)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ArzooError(
            f"{path} is not a table of captions ({error}). captions.json must look like "
            '{"picture.png": "a caption"}, captions.jsonl has {"file_name": "picture.png", "text": "a caption"} '
            "on every line."
        ) from error
    return table


def _caption(path: Path, folder: Path, captions: dict[str, str]) -> str:
    """The caption of one picture, empty if it has none."""
    named = captions.get(path.relative_to(folder).as_posix()) or captions.get(path.name)
    if named:
        return named
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8", errors="replace").strip() if text.exists() else ""


def _held_out(names: list[str]) -> torch.Tensor:
    """The pictures whose names hash lowest; at least one where there are two."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).hexdigest())
    count = max(len(names) // _HELD_OUT, 1) if len(names) > 1 else 0
    held = torch.zeros(len(names), dtype=torch.bool)
    held[order[:count]] = True
    return held
