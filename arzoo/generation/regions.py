"""Regions of a picture or clip to keep, for inpainting, outpainting, frame prediction and interpolation.

Shapes: T frames, H x W pixels, N positions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from arzoo.base.errors import UsageError, nearest
from arzoo.core.clips import as_clips
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.pyramid import shares
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.data.transforms import to_model

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

LEAST_KEPT = 0.5
"""Share of what a token of a coarser level covers, from which on it is kept."""
NAMES = ("top", "bottom", "left", "right", "border", "center")
_HOW = "the first 5 (5), first, last, first,last, or ranges from 0 (0-3,8-11)"
_FRAMES = re.compile(r"(first|last|[0-9]+(-[0-9]+)?)(,(first|last|[0-9]+-[0-9]+))*")


def kept_pixels(keep: str, height: int, width: int) -> Tensor:
    """Return the pixels of a picture to keep, (H, W) bool.

    Args:
        keep: One of `NAMES` (halves; an outer ring of a quarter; the middle half), or "x,y,w,h" in pixels.
        height: H.
        width: W.

    Raises:
        UsageError: The region has another name, or the rectangle does not lie in the picture.
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    top, left = height // 4, width // 4
    boxes = {
        "top": (0, 0, width, height // 2),
        "bottom": (0, height // 2, width, height - height // 2),
        "left": (0, 0, width // 2, height),
        "right": (width // 2, 0, width - width // 2, height),
        "border": (left, top, width - 2 * left, height - 2 * top),
        "center": (left, top, width - 2 * left, height - 2 * top),
    }
    if keep in boxes:
        x, y, w, h = boxes[keep]
    else:
        try:
            x, y, w, h = (int(part) for part in keep.split(","))
        except ValueError:
            raise UsageError(
                f"unknown region {keep!r}.{nearest(keep, NAMES)} Or give a rectangle in pixels as x,y,w,h."
            ) from None
        if not (0 <= x and 0 <= y and w > 0 and h > 0 and x + w <= width and y + h <= height):
            raise UsageError(
                f"--keep {keep} does not lie in the picture, which is {width} wide and {height} high"
            )
    mask[y : y + h, x : x + w] = True
    return ~mask if keep == "border" else mask


def kept_frames(keep: str, frames: int, last: int = 1) -> Tensor:
    """Return the frames of a clip to keep, (T,) bool.

    Args:
        keep: The number of first frames, or several of "first", "last" and ranges of frames from 0 such as "0-3", with
            commas between them.
        frames: T.
        last: Number of frames that "last" stands for: those of the last token.

    Raises:
        UsageError: The text says something else, or a frame is not in the clip.
    """
    if not _FRAMES.fullmatch(keep):
        raise UsageError(f"unknown frames {keep!r}: give {_HOW}")
    mask = torch.zeros(frames, dtype=torch.bool)
    for part in keep.split(","):
        ends = {"first": (0, 0), "last": (frames - last, frames - 1)}.get(part)
        if ends is None:
            start, _, stop = part.partition("-")
            ends = (int(start), int(stop)) if stop else (0, int(start) - 1)
        if not 0 <= ends[0] <= ends[1] < frames:
            raise UsageError(
                f"--keep {keep} keeps frames that the clip does not have: its {frames} frames are 0 to {frames - 1}"
            )
        mask[ends[0] : ends[1] + 1] = True
    return mask


def kept_of_clip(keep: str, frames: int, height: int, width: int, last: int = 1) -> Tensor:
    """Return the pixels of a clip to keep, (T, H, W) bool.

    Args:
        keep: FRAMES as in `kept_frames`, REGION as in `kept_pixels` (in all frames), or FRAMES:REGION. Of a clip of one
            frame, a region.
        frames: T.
        height: H.
        width: W.
        last: As in `kept_frames`.

    Raises:
        UsageError: As `kept_frames` and `kept_pixels`.
    """
    when, colon, where = keep.partition(":")
    if not colon and (frames == 1 or not _FRAMES.fullmatch(keep)):
        when, where = "", keep
    try:
        pixels = kept_pixels(where, height, width) if where else torch.ones(height, width, dtype=torch.bool)
    except UsageError as error:
        if frames == 1:
            raise
        raise UsageError(f"{error} Or frames of the clip: {_HOW}.") from None
    shown = kept_frames(when, frames, last) if when else torch.ones(frames, dtype=torch.bool)
    return shown[:, None, None] & pixels


def frames_of_tokens(frames: int, times: int, first_alone: bool) -> list[range]:
    """Return the frames of a clip that each time of a grid covers.

    Args:
        frames: Frames of the clip.
        times: t of the grid.
        first_alone: See `TokenSpec.first_alone`.
    """
    first = int(first_alone)
    duration = (frames - first) // max(times - first, 1)
    starts = range(first, frames, duration) if times > first else ()
    return [range(first)] * first + [range(start, start + duration) for start in starts]


def refuse_parts_of_tokens(keep: str, kept: Tensor, times: Sequence[range]) -> None:
    """Check that the frames to keep (T,) bool, which `keep` names, are those of whole tokens.

    Raises:
        UsageError: Of the frames of a token, some are named and others are not.
    """
    parts = [each for each in times if 0 < int(kept[list(each)].sum()) < len(each)]
    if not parts:
        return
    several = ", ".join(f"{each[0]}-{each[-1]}" for each in parts)
    are = "are one token" if len(parts) == 1 else "are one token each"
    counts = ", ".join(str(each[-1] + 1) for each in times[:-1])
    raise UsageError(
        f"--keep {keep} names some of the frames {several}, which {are}: name all of these frames or none (numbers of "
        f"first frames that are whole tokens: {counts})"
    )


def kept_tokens(
    pixels: Tensor, grid: Grid, first_alone: bool = False, subject: str = "--keep keeps"
) -> Tensor:
    """Return the positions whose cells are kept completely, (N,) bool.

    Args:
        pixels: (H, W) bool, or (T, H, W) of a clip.
        grid: Layout, whose cells divide the clip.
        first_alone: See `TokenSpec.first_alone`.
        subject: Beginning of the message.

    Raises:
        UsageError: No position is kept, or all are.
    """
    clip = pixels if pixels.dim() == 3 else pixels[None]
    frames, height, width = clip.shape
    duration = len(frames_of_tokens(frames, grid.t, first_alone)[-1])
    if first_alone:  # as if the first frame lasted as long as the others
        clip = torch.cat([clip[:1].expand(max(duration, 1) - 1, -1, -1), clip])
    cells = clip.view(grid.t, -1, grid.h, height // grid.h, grid.w, width // grid.w)
    kept = cells.all(5).all(3).all(1).flatten()
    if not kept.any() or kept.all():
        what = ("nothing of the" if not kept.any() else "the whole") + (" clip" if grid.t > 1 else " picture")
        size = f"{height // grid.h} x {width // grid.w} pixels each"
        if duration > 1:
            size += f" of {duration} frames" + (", those of the first frame of one" if first_alone else "")
        raise UsageError(f"{subject} {what}: tokens cover {size}")
    return kept


def has_places(layout: Layout, spec: TokenSpec) -> TypeGuard[Grid]:
    """Return whether the tokens of a layout, which a tokenizer of this contract decodes, have a place in the clip."""
    return isinstance(layout, Grid) and (bool(spec.downscale) or layout.t == 1)


def clip_shape(model: Generator) -> tuple[Grid, tuple[int, int, int]]:
    """Return the grid of a model, of a pyramid the finest one, and the (T, H, W) of its clips.

    Raises:
        UsageError: Its tokens have no place in the clip.
    """
    spec, layout = model.tokenizer.spec, model.spec.layout
    layout = layout.levels[-1] if isinstance(layout, Pyramid) else layout
    if not has_places(layout, spec):
        raise UsageError(
            "what is to be completed needs tokens on a grid over the picture or clip, and those of this model "
            f"({layout}) have no place in it. Take a model of another tokenizer"
        )
    return layout, spec.clip_of(layout) if spec.downscale else (1, *model.image_size)


def region_of(model: Generator, keep: str) -> Tensor:
    """Return the tokens of a model that a region of the picture or clip keeps, (N,) bool.

    Args:
        model: The generator that draws the other tokens.
        keep: The region, see `kept_of_clip`.

    Raises:
        UsageError: The tokens of the model have no place in the clip, or the region is invalid.
    """
    grid, shape = clip_shape(model)
    first_alone = model.tokenizer.spec.first_alone
    times = frames_of_tokens(shape[0], grid.t, first_alone)
    pixels = kept_of_clip(keep, *shape, last=len(times[-1]))
    refuse_parts_of_tokens(keep, pixels.flatten(1).any(1), times)
    return kept_tokens(pixels, grid, first_alone)


def meaning_of_last(model: Generator, keep: str) -> str:
    """Say which frames "last" stands for where it is named and means several; else an empty text."""
    grid, (frames, _, _) = clip_shape(model)
    last = frames_of_tokens(frames, grid.t, model.tokenizer.spec.first_alone)[-1]
    if len(last) == 1 or "last" not in keep.partition(":")[0].split(","):
        return ""
    return f"last means frames {last[0]}-{last[-1]}, which are one token"


def frames_to(model: Generator, region: Tensor) -> int:
    """Return the number of frames up to the last one that a region (N,) keeps something of."""
    grid, _ = clip_shape(model)
    last = int(region.view(grid.t, -1).any(1).nonzero().max())
    spec = model.tokenizer.spec
    return spec.clip_of(Grid(last + 1, 1, 1))[0] if spec.downscale else 1


@torch.inference_mode()
def kept_canvas(model: Generator, clips: Tensor, region: Tensor) -> Tokens:
    """Encode pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8 to a canvas of which a region is given.

    Frames after the last kept one have no influence: a causal tokenizer encodes the others alone, for any other one
    copies of the last kept frame take their place. They may be missing.

    Args:
        model: The generator that draws the other tokens.
        clips: What to encode.
        region: (N,) bool, the tokens to keep. In a pyramid they are those of the finest level, and coarser ones are
            kept if at least half of what they cover is: the levels add up, so what is kept would change with them.

    Raises:
        UsageError: The clips have fewer frames than are to be kept.
    """
    tokenizer, (grid, shape) = model.tokenizer, clip_shape(model)
    frames, kept = clips if clips.dim() == 5 else clips[:, None], frames_to(model, region)
    if frames.shape[1] < kept:
        raise UsageError(f"{kept} frames are to be kept, and the clip to complete has {frames.shape[1]}")
    frames = frames[:, :kept]
    if not tokenizer.strictly_causal:
        frames = torch.cat([frames, frames[:, -1:].expand(-1, shape[0] - kept, -1, -1, -1)], 1)
    codes = tokenizer.encode(as_clips(to_model(frames).to(model.device))).values
    if isinstance(model.spec.layout, Pyramid):
        region = shares(region, model.spec.layout) >= LEAST_KEPT
        return Tokens.of(codes, region.to(codes.device).expand(len(codes), -1))
    values = codes.new_zeros(len(codes), grid.size, *codes.shape[2:])
    values[:, : codes.shape[1]] = codes
    return Tokens.of(values, region.to(values.device).expand(len(values), -1))
