"""What lies between encoder and decoder of a tokenizer while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


class Bottleneck:
    """What lies between encoder and decoder in a training pass, and what it adds to loss and figures."""

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Its terms of the loss on pictures x (B, 3, H, W) by the name of their weight, before that weight."""
        raise NotImplementedError

    @staticmethod
    def figures(found: Sequence[Any]) -> dict[str, float]:
        """What validation reports of the bottlenecks of all batches."""
        raise NotImplementedError
