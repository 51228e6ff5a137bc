"""The canvas of a generator: encoding and decoding pictures, and checks of given tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.ends import from_canvas, to_canvas, with_ends
from arzoo.core.layout import Grid, Layout, Pyramid
from arzoo.core.tokens import Tokens, TokenSpec, require_tokens
from arzoo.data.clip_files import counted
from arzoo.data.transforms import to_model, to_uint8
from arzoo.generation.drawings import Drawings


def canvas_spec(spec: TokenSpec, ends: bool | None) -> TokenSpec:
    """Return the contract of the canvas of a generator over the tokens of a tokenizer.

    Args:
        spec: The tokenizer's contract.
        ends: The generator draws where a picture ends; None if the tokenizer itself decides the number of tokens.

    Raises:
        ArzooError: Pictures cannot end early, or their tokens are not one code a position.
    """
    return with_ends(spec) if ends or (ends is None and spec.subset_ok) else spec


def without_padding(given: Tokens) -> Tokens:
    """Return a canvas to be filled: tokens that are given stay, padding is drawn."""
    present = given.present
    full = torch.full_like(given.length, present.shape[1])
    return replace(given, known=present, given=given.given & present, length=full)


def image_size(tokenizer: Tokenizer, spec: TokenSpec) -> tuple[int, int]:
    """Return (H, W) in pixels of the pictures of a canvas.

    Args:
        tokenizer: Decodes them.
        spec: Contract of the canvas, whose grid may be another one than the tokenizer was made for.
    """
    layout = spec.layout.levels[-1] if isinstance(spec.layout, Pyramid) else spec.layout
    if not tokenizer.spec.downscale or not isinstance(layout, Grid):
        return tokenizer.image_size
    _, height, width = tokenizer.spec.clip_of(layout)
    return height, width


def require_pictures(size: tuple[int, int], images: Tensor) -> Tensor:
    """Return pictures or clips of a size (H, W) as clips (B, T, H, W, 3) uint8.

    Raises:
        ArzooError: They have another shape or type.
    """
    height, width = size
    clips = images[:, None] if images.dim() == 4 else images
    if images.dtype != torch.uint8 or clips.dim() != 5 or tuple(clips.shape[2:]) != (height, width, 3):
        raise ArzooError(
            f"pictures must be (B, {height}, {width}, 3) uint8, or clips (B, T, {height}, {width}, 3); got "
            f"{tuple(images.shape)} {images.dtype}. PIL images of any size are resized: give Image.fromarray(array)."
        )
    return clips


@torch.no_grad()  # not inference mode, whose tensors can never be changed: a canvas is meant to be edited
def encoded(tokenizer: Tokenizer, spec: TokenSpec, images: Tensor, canvas: Layout) -> Tokens:
    """Encode pictures to tokens on a canvas, see `Generator.encode`."""
    clips = require_pictures(image_size(tokenizer, spec), images)
    tokens = tokenizer.encode(to_model(clips))
    if not pyramid.covers(canvas, tokens.layout or tokenizer.spec.layout):
        raise ArzooError(
            f"the model draws {canvas}, and clips of {counted(clips.shape[1])} have {tokens.layout}"
        )
    return to_canvas(tokens, spec) if spec.ends else pyramid.on_canvas(tokens, canvas)


@torch.no_grad()
def decoded(
    tokenizer: Tokenizer,
    spec: TokenSpec,
    tokens: Tokens,
    canvas: Layout,
    exact: bool,
    draws: Draws | None = None,
) -> Drawings:
    """Decode tokens to clips, one by one or all at once, see `Generator.decode`."""
    if canvas != tokenizer.spec.layout:
        tokens = pyramid.finest(tokens, canvas)
        if tokens.layout is None and isinstance(canvas, Grid):
            tokens = replace(tokens, layout=canvas)  # pictures of another size
    if spec.ends:
        tokens = from_canvas(tokens, spec)
    rows = torch.arange(len(tokens.values), device=tokens.values.device)
    clips = list[Tensor]()
    for row in rows.split(1) if exact else [rows]:
        options: dict[str, Any] = {}
        if draws is not None and tokenizer.noisy:
            options["draws"] = draws.select(row.tolist())
        clips.append(tokenizer.decode(tokens.select(row), **options))
    return Drawings.of(torch.cat([to_uint8(clip).cpu() for clip in clips]), tokens.present.sum(1).cpu())


def refuse_given(given: Tokens, spec: TokenSpec, canvas: Layout, count: int) -> None:
    """Check that given tokens suit a model and the number of requested pictures.

    Raises:
        ArzooError: The number of rows differs, the tokens are of another kind or size, or a value is out of range.
    """
    require_tokens(given)
    values = given.values
    fits = values.shape[1] in (spec.layout.size, canvas.size) and values.shape[2:] == spec.token_shape
    if not fits or values.is_floating_point() == spec.discrete:
        shape = ", ".join(map(str, (spec.layout.size, *spec.token_shape)))
        raise ArzooError(
            f"given tokens must be {'codes' if spec.discrete else 'vectors'} (B, {shape}) for this model, got "
            f"{tuple(values.shape)} {values.dtype}"
        )
    if len(values) != count:
        raise ArzooError(
            f"{count} pictures are requested but there are {len(values)} rows of given tokens; give one row per "
            "picture. The same row for all: given.select(torch.zeros(n, dtype=torch.long))"
        )
    given_values = values[given.given]
    if spec.discrete and bool(((given_values < 0) | (given_values >= spec.vocab)).any()):
        raise ArzooError(
            f"given codes must be 0 to {spec.vocab - 1}, got {int(given_values.min())} to {int(given_values.max())}"
        )
    if not spec.discrete and not bool(given_values.isfinite().all()):
        raise ArzooError("given vectors must be finite numbers; some are not")
