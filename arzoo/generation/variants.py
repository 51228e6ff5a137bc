"""The same generator with another plan, or for pictures of another size than it was made for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import UsageError
from arzoo.core.layout import Grid
from arzoo.generation.build import plain

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


def replanned(model: Generator, name: str | None = None, /, **options: Any) -> Generator:
    """Return the same generator with other options of its plan, such as `steps`, or with another plan.

    Nothing is trained: `with_plan("zipar", distance=4)` of a raster model draws approximately what it would, with a
    warning.

    Raises:
        UnknownName: There is no such plan, or it takes no such option.
        ArzooError: An option is of another type or out of range, or the parts do not fit the plan.
    """
    other = model.with_weights(model.backbone, model.heads)
    if name is not None and name != model.plan_name:
        other.plan_name, other.plan_options = name, {}
    other.plan_options |= plain(options, "plan options")
    other.plan()
    return other


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
