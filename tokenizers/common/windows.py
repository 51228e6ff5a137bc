"""Long clips in windows, for tokenizers that need all frames of a clip at once.

Every window is encoded alone, so what lies on both sides of a seam was decided without the other side and may not fit;
`arzoo.metrics.seams` measures it. Causal tokenizers take long clips whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.tokens import Tokens


def encode_windows(tokenizer: Tokenizer, x: Tensor) -> list[Tokens]:
    """Encode clips of any length (B, 3, T, H, W) in [-1, 1], `tokenizer.frames` at a time.

    The last window is filled up with its last frame.
    """
    windows = list(x.split(tokenizer.frames, 2))
    missing = tokenizer.frames - windows[-1].shape[2]
    windows[-1] = torch.cat([windows[-1], windows[-1][:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)
    return [tokenizer.encode(window) for window in windows]


def decode_windows(tokenizer: Tokenizer, windows: Sequence[Tokens], frames: int) -> Tensor:
    """Decode what `encode_windows` made of clips of so many frames to clips (B, 3, T, H, W).

    Raises:
        ArzooError: So many frames are not that many windows.
    """
    needed = -(-frames // tokenizer.frames)
    if len(windows) != needed or frames < 1:
        raise ArzooError(
            f"{len(windows)} windows of {tokenizer.frames} frames are {(len(windows) - 1) * tokenizer.frames + 1} to "
            f"{len(windows) * tokenizer.frames} frames, got {frames}"
        )
    return torch.cat([tokenizer.decode(window) for window in windows], 2)[:, :, :frames]
