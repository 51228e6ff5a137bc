"""The picture that a visitor paints on: what he uploads is bounded before it is decoded, and no path is opened."""

from __future__ import annotations

import io
from abc import ABCMeta
from typing import Any

import gradio
import numpy as np
from gradio.components.image_editor import EditorData
from gradio.data_classes import FileData
from PIL import Image

from arzoo.data.reading import rgb, sized

SIDE = 512
"""Pixels of the canvas on which a visitor paints."""
COLOUR = "#e6007a"
MOST_PIXELS, MOST_LAYERS = 1 << 22, 4


class _Quiet(type(gradio.ImageEditor)):  # type: ignore[misc]
    """Makes a class of a component without writing a file of its types beside this module, as gradio does."""

    def __new__(cls, *definition: Any) -> Any:
        return ABCMeta.__new__(cls, *definition)


class Editor(gradio.ImageEditor, metaclass=_Quiet):
    """A picture with a brush; its value is the picture and the opacity of the strokes, or None without a picture."""

    is_template = True  # the page shows it as the class above

    def preprocess(self, payload: EditorData | None) -> Any:
        """Return what a visitor painted.

        Raises:
            gradio.Error: It is no picture, or too large.
        """
        source: Any = payload
        if payload is not None and payload.id is not None:
            source = self.blob_storage.pop(payload.id, None)
        if source is None or source.background is None:
            return None
        if len(source.layers or ()) > MOST_LAYERS:
            raise refusal(f"more than {MOST_LAYERS} layers")
        strokes = [opened(layer).getchannel("A") for layer in source.layers or () if layer is not None]
        return opened(source.background), strokes

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> Any:
        """Keep a file that was uploaded; an address, which would be fetched, is refused."""
        if "://" in str(url_or_file_path):
            raise refusal("pictures are uploaded, addresses are not opened")
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def editor(**more: Any) -> Editor:
    """Return a canvas of `SIDE` pixels with one brush."""
    brush = gradio.Brush(default_size=64, colors=[COLOUR], default_color=COLOUR, color_mode="fixed")
    return Editor(
        type="pil", image_mode="RGBA", format="png", sources=("upload", "clipboard"), transforms=(),
        canvas_size=(SIDE, SIDE), fixed_canvas=True, layers=False, buttons=[], brush=brush, **more,
    )  # fmt: skip


def opened(source: FileData | bytes) -> Image.Image:
    """Decode a picture to RGBA.

    Raises:
        gradio.Error: It is no picture, or too large.
    """
    try:
        with Image.open(source.path if isinstance(source, FileData) else io.BytesIO(source)) as image:
            width, height = image.size
            picture = image.convert("RGBA") if width * height <= MOST_PIXELS else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise refusal("the file is not a whole picture") from error
    if picture is None:
        raise refusal(
            f"the picture has {width} x {height} pixels, more than {MOST_PIXELS:,}; make it smaller"
        )
    return picture


def refusal(words: str) -> gradio.Error:
    """Return the error that the page shows."""
    return gradio.Error(words, print_exception=False)


def to_complete(
    painted: tuple[Image.Image, list[Image.Image]], height: int, width: int
) -> tuple[Image.Image, Image.Image]:
    """Return a picture of the size of a model, and what of it is painted over in white.

    Args:
        painted: The picture and the opacity of each layer of strokes, all RGBA of one size.
        height: H of the model.
        width: W of the model.
    """
    picture, strokes = painted
    over = np.zeros((picture.height, picture.width), np.uint8)
    for stroke in strokes:
        over = np.maximum(over, np.asarray(stroke.resize(picture.size)))
    box = picture.getchannel("A").getbbox()  # the canvas is larger than a picture that is no square
    mask = Image.fromarray(np.where(over > 0, 255, 0).astype(np.uint8)).convert("RGB")
    parts = sized(rgb(picture.crop(box)), height, width), sized(mask.crop(box), height, width)[..., 0]
    return Image.fromarray(parts[0].copy()), Image.fromarray(
        np.where(parts[1] > 127, 255, 0).astype(np.uint8)
    )
