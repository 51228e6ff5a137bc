"""Pictures and masks that a user gives, as PIL images, files, arrays or tensors.

Shapes: n pictures or clips, T frames, H x W pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.tokens import Tokens
from arzoo.data.reading import read_rgb, rgb, sized
from arzoo.generation import fit
from arzoo.generation.canvas import require_pictures
from arzoo.generation.regions import clip_shape, kept_canvas, kept_tokens

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

Pictures = Any
"""A PIL image, the path of a file, or an array or tensor (H, W, 3), (n, H, W, 3) or (n, T, H, W, 3) uint8; or a list.
A list of lists of pictures is several clips, and so is a list of arrays (T, H, W, 3) for models of clips, for which a
list of pictures is one clip."""
Mask = Any
"""A PIL image, or an array or tensor (H, W), of a clip also (T, H, W): what is white, 1 or True is drawn anew."""


class Unseen(UserWarning):
    """A kept part of a picture has no influence on tokens that are drawn before its place in the order."""


def pictures_of(images: Pictures, size: tuple[int, int], frames: int = 1) -> Tensor:
    """Return pictures as a tensor (n, H, W, 3) or (n, T, H, W, 3).

    PIL images and files are read as data sets are: on white, resized to cover the size, and cropped to its middle.
    Arrays are taken as they are; their size and type are checked where they are used.

    Args:
        images: The pictures or clips.
        size: (H, W) of the model.
        frames: Frames of the clips of the model.

    Raises:
        ArzooError: It is nothing of the kind, or a file cannot be read.
    """
    if isinstance(images, (Image.Image, str, os.PathLike)):
        return _fitted(_opened(images), size)
    if isinstance(images, (Tensor, np.ndarray)):
        pixels = torch.as_tensor(images).as_subclass(Tensor)
        return pixels[None] if pixels.dim() == 3 else pixels
    if not isinstance(images, Sequence) or not len(images):
        raise ArzooError(
            f"pictures are PIL images, files, or arrays (n, H, W, 3) uint8, or a list of them; got {images!r:.80}"
        )
    if any(isinstance(each, Sequence) and not isinstance(each, str) for each in images):
        return _stacked([pictures_of(each, size, 2) for each in images])
    parts = [pictures_of(each, size) for each in images]
    if frames == 1:
        return _stacked(parts)
    whole = [
        isinstance(each, (Tensor, np.ndarray)) and each.ndim == 4 for each in images
    ]  # clips, not frames
    pictures = _stacked([part[None] if clip else part for part, clip in zip(parts, whole, strict=True)])
    return pictures if pictures.dim() == 5 else pictures[None]


def _stacked(pictures: list[Tensor]) -> Tensor:
    if len({each.shape[1:] for each in pictures}) > 1:
        sizes = sorted({tuple(each.shape[1:]) for each in pictures})
        raise ArzooError(f"all pictures of a request have one size and number of frames; got {sizes}")
    return torch.cat(pictures)


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """Return an RGB picture as (1, H, W, 3), resized and cropped."""
    return torch.from_numpy(np.array(sized(picture, *size)))[None]


def _opened(image: Image.Image | str | os.PathLike[str]) -> Image.Image:
    """Return an image or the content of a file, upright and in RGB."""
    if isinstance(image, Image.Image):
        try:
            return rgb(ImageOps.exif_transpose(image))
        except (OSError, ValueError) as error:
            raise ArzooError(f"the picture cannot be used: it {error}") from error
    try:
        return read_rgb(Path(image))
    except FileNotFoundError as error:
        raise ArzooError(f"there is no file {os.fspath(image)}") from error
    except (OSError, ValueError) as error:
        raise ArzooError(f"{os.fspath(image)} is not a whole picture ({error})") from error


def completion(model: Generator, init: Pictures | None, mask: Mask | None, num: int) -> Tokens:
    """Return the canvas of pictures to complete, on which what the mask leaves is given.

    Args:
        model: The generator that draws the rest.
        init: One picture or clip for all, or one for each.
        mask: What to draw anew, in pixels of the model's pictures, or of `init` if that is a PIL image or a file.
        num: Number of pictures.

    Raises:
        ArzooError: Only one of both is given, their sizes differ, the mask leaves nothing or everything, or tokens of
            the model have no place in the picture.
    """
    if init is None or mask is None:
        raise ArzooError(
            "init=picture and mask=mask go together: the picture to complete, and what of it to draw anew (white, 1 or "
            "True). Without either, everything is drawn."
        )
    grid, (frames, *_) = clip_shape(model)
    size = model.image_size
    picture = _opened(init) if isinstance(init, (Image.Image, str, os.PathLike)) else None
    clips = pictures_of(init, size, frames) if picture is None else _fitted(picture, size)
    pixels = _drawn_anew(mask, None if picture is None else (picture.height, picture.width), size, frames)
    region = kept_tokens(~pixels, grid, model.tokenizer.spec.first_alone, "the mask leaves")
    if len(clips) not in (1, num):
        raise ArzooError(
            f"{num} pictures are requested and {len(clips)} are given to complete; give one, or one for each"
        )
    canvas = kept_canvas(model, require_pictures(size, clips), region)
    plan = model.plan((0,), canvas.given[:1].cpu())
    for remark in fit.notes(model.backbone, plan, pyramid.on_canvas(canvas, plan.layout).given[:1].cpu()):
        warnings.warn(remark, Unseen, stacklevel=3)
    return canvas.select(torch.zeros(num, dtype=torch.long)) if len(clips) < num else canvas


def _drawn_anew(mask: Mask, own: tuple[int, int] | None, size: tuple[int, int], frames: int) -> Tensor:
    """Return the pixels to draw anew, (T, H, W) bool, from a mask of the model's size.

    A mask of the size `own` (H, W) of a picture that is resized, if there is one, is resized with it.
    """
    try:
        values = np.asarray(
            mask.convert("L") if isinstance(mask, Image.Image) else torch.as_tensor(mask).cpu()
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArzooError(f"a mask is a PIL image, or an array (H, W); got {mask!r:.80}") from error
    if values.dtype != bool:
        values = values > (0.5 if values.max(initial=0) <= 1 else 127.5)
    if values.ndim not in (2, 3) or (values.ndim == 3 and len(values) != frames):
        raise ArzooError(
            f"a mask is (H, W), one number a pixel{f', or ({frames}, H, W)' if frames > 1 else ''}; got {values.shape}"
        )
    shape = values.shape[-2:]
    if shape == size:
        return torch.from_numpy(values.copy()).expand(frames, -1, -1)
    if shape != own or values.ndim == 3:
        height, width = size
        sizes = f"{width} x {height}, as the model draws"
        if own is not None and own != size:
            sizes += f", or {own[1]} x {own[0]}, as the picture"
        raise ArzooError(
            f"the mask is {shape[1]} wide and {shape[0]} high, and has to be {sizes}: mask.resize(({width}, {height})) "
            "of PIL resizes it"
        )
    fitted = sized(Image.fromarray(values.astype(np.uint8) * 255).convert("RGB"), *size)
    return torch.from_numpy(fitted[..., 0] > 127).expand(frames, -1, -1)
