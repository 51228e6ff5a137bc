"""Settings in files of pictures and clips, which say how they were drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import require
from arzoo.version import __version__

if TYPE_CHECKING:
    import numpy as np

KEY = "arzoo"
"""Text chunk of a PNG that holds the settings as JSON; in other files, entry of a JSON object in their comment."""
MP4 = ".mp4"
EXIF_DESCRIPTION = 0x010E


def write_png(path: Path, pixels: np.ndarray | Any, settings: dict[str, Any], **options: Any) -> None:
    """Write a picture with its settings.

    Args:
        path: The file.
        pixels: (H, W, 3) uint8, or a PIL image.
        settings: Plain data; `settings_in` returns it.
        **options: Further arguments of `PIL.Image.Image.save`, such as those of an animation.
    """
    from PIL import Image, PngImagePlugin

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Software", f"arzoo {__version__}")
    chunks.add_itxt(KEY, json.dumps(settings, ensure_ascii=False))
    image.save(path, "PNG", pnginfo=chunks, **options)


def comment(settings: dict[str, Any]) -> str:
    """Return the comment of a file that holds settings, in ASCII."""
    return json.dumps({KEY: settings})


def twice_as_large(width: int, height: int) -> str:
    """Return the description of an mp4 file of this size that has 2 x 2 pixels for each one of its clip."""
    return f"{KEY}: a pixel of the clip is 2 x 2 of these {width} x {height}"


def stored_text(path: Path) -> str | None:
    """Read the text that `write_png` or `arzoo.viz.clips.write_clip` stored in a file; None if there is none.

    Raises:
        MissingPackage: The package that reads mp4 files is not installed.
        OSError: There is no such file, or it is not a picture or clip; decoders also raise other errors.
    """
    if path.suffix.lower() == MP4:
        from arzoo.data.clip_files import plain_errors

        av = require("av", "video")
        with plain_errors(av), av.open(str(path)) as container:
            return _own(container.metadata.get("comment"))
    from PIL import Image

    with Image.open(path) as image:  # reads the text before the pixels, which are not needed
        if KEY in image.info:
            return str(image.info[KEY])
        return _own(image.info.get("comment") or image.getexif().get(EXIF_DESCRIPTION))


def _own(text: str | bytes | None) -> str | None:
    """Return a comment if it was not written by another program."""
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    return text if isinstance(text, str) and text.startswith(f'{{"{KEY}": ') else None


def settings_in(text: str) -> dict[str, Any]:
    """Return the settings in a text of `stored_text`.

    Raises:
        ValueError: The text is damaged, also as `TypeError` and `RecursionError`.
    """
    settings = dict(json.loads(text))
    return dict(settings.get(KEY, settings))
