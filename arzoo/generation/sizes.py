"""Pictures of other sizes than a generator was made for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arzoo.base.errors import UsageError
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.tokens import TokenSpec

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


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


def resized(model: Generator, height: int, width: int) -> Generator:
    """Return the same generator for pictures of another size.

    Tokenizers on a grid, and networks that know places by their order alone (`longcat_tiny`), take any size; what was
    not seen in training is drawn worse.

    Args:
        model: The generator.
        height: Height of the pictures in pixels.
        width: Their width in pixels.

    Raises:
        UsageError: The tokenizer has one size.
        ArzooError: The sizes are no multiples of a token's, or the network, its heads or its plan have one size.
    """
    tokenizer = model.tokenizer
    if (height, width) == model.image_size:
        return model
    if not tokenizer.spec.downscale or not isinstance(model.spec.layout, Grid):
        own = " x ".join(map(str, reversed(model.image_size)))
        raise UsageError(
            f"the tokens of this model are of pictures of {own} pixels and of no other size: leave the size out"
        )
    frames, _, _ = tokenizer.spec.clip_of(model.spec.layout)
    other = model.with_weights(model.backbone, model.heads)
    other.spec = replace(model.spec, layout=tokenizer.spec.layout_of((frames, height, width)))
    other.plan()  # refuses parts that do not fit
    return other
