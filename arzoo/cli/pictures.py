"""Reading pictures, and writing PNGs that know how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

KEY = "arzoo"
"""Text chunk of a PNG that holds the settings as JSON."""


def write_png(path: Path, pixels: np.ndarray | Any, settings: dict[str, Any]) -> None:
    """Write a picture with its settings.

    Args:
        path: Where to.
        pixels: (H, W, 3) uint8, or a PIL image.
        settings: Plain data; `read_settings` gets it back.
    """
    from PIL import Image, PngImagePlugin

    import arzoo

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Software", f"arzoo {arzoo.__version__}")
    chunks.add_itxt(KEY, json.dumps(settings, ensure_ascii=False))
    image.save(path, pnginfo=chunks)


def read_settings(path: str) -> dict[str, Any]:
    """Settings that `write_png` put into a picture.

    Raises:
        ArzooError: The file is no picture, or was not made by this library.
    """
    with _explained(path):
        from PIL import Image

        with Image.open(path) as image:  # the text stands before the pixels, which are not needed
            text = image.info.get(KEY)
    if text is None:
        raise ArzooError(
            f"{path} does not say how it was made: it has no {KEY!r} text. Was it edited or converted?"
        )
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArzooError(f"the settings in {path} cannot be read ({error})") from error


def read_picture(path: str, height: int, width: int) -> Tensor:
    """A picture of the model's size: on white, centre crop, resized.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ArzooError: The file does not exist, is no picture, is damaged or too large.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from arzoo.data.folder import read_rgb

    with _explained(path):
        flat = read_rgb(Path(path))
    return torch.from_numpy(np.array(ImageOps.fit(flat, (width, height), Image.Resampling.LANCZOS)))


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Says of every error in reading a picture what it means."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArzooError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise ArzooError(f"{path} is a folder, a picture file is needed") from error
    except Exception as error:  # decoders meet damaged files with errors of every kind
        raise ArzooError(f"{path} is not a whole picture ({error})") from error


def expand(paths: Sequence[str]) -> list[str]:
    """Files of the given files and folders, in order.

    Raises:
        ArzooError: A folder holds no picture.
    """
    found = []
    for path in paths:
        inside = sorted(str(p) for p in Path(path).rglob("*") if p.suffix.lower() in _SUFFIXES)
        if Path(path).is_dir() and not inside:
            raise ArzooError(f"{path} holds no picture ({', '.join(sorted(_SUFFIXES))})")
        found += inside if Path(path).is_dir() else [path]
    return found


_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}
