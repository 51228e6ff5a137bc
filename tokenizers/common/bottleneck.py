"""The contract of the bottleneck of a tokenizer in training: its loss terms and its validation figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig


class Bottleneck:
    """The part between encoder and decoder in a training pass, with its loss terms and validation figures."""

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Unweighted loss terms on pictures or clips x (B, 3, ..., H, W), keyed by the name of their weight."""
        raise NotImplementedError

    @staticmethod
    def figures(bottlenecks: Iterable[Any]) -> dict[str, float]:
        """Validation figures, computed from the bottlenecks of all batches, which are looked at once."""
        raise NotImplementedError
