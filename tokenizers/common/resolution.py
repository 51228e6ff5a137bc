"""Pictures that keep their shapes, for tokenizers that take any size, see `arzoo.core.sizes`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.base.registry import called
from arzoo.core.contracts import Tokenizer
from arzoo.core.sizes import Sizes


def sizes_of(tokenizer: Tokenizer) -> Sizes:
    """Return the sizes of pictures that a tokenizer takes.

    Raises:
        UsageError: It takes pictures of one size.
    """
    if tokenizer.sizes is None:
        height, width = tokenizer.image_size
        raise UsageError(
            f"sizes=keep gives pictures of unlike sizes, and {called(tokenizer)} takes those of one size, "
            f"{width} x {height}. Leave sizes out, or take a tokenizer of any size, such as longcat_8_small"
        )
    return tokenizer.sizes


def fit_pictures(pictures: Tensor, sizes: Sizes) -> Tensor:
    """Resize pictures (B, 3, H, W) in [-1, 1] to their `fitted_size`, bicubic with antialiasing; the same errors."""
    height, width = pictures.shape[2:]
    size = sizes.fitted(height, width)
    if size == (height, width):
        return pictures
    return F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(-1, 1)
