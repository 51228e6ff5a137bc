"""What a tokenizer promises: pictures to tokens and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.checkpoints.hub import Shared
from arzoo.core.tokens import TokenSpec

if TYPE_CHECKING:
    from arzoo.tokenizers.common.losses import TokenizerLossConfig


class Bottleneck:
    """What lies between encoder and decoder in a training pass, and what it adds to loss and figures."""

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Its terms of the loss on pictures x (B, 3, H, W) by the name of their weight, before that weight."""
        raise NotImplementedError

    @staticmethod
    def figures(found: Sequence[Any]) -> dict[str, float]:
        """What validation reports of the bottlenecks of all batches."""
        raise NotImplementedError


class Tokenizer(Shared, nn.Module):
    """A picture or clip as tokens.

    Attributes:
        config: The settings it was built from.
        spec: What its tokens are.
        image_size: (H, W) of the pictures it was made for.
    """

    config: Config
    spec: TokenSpec
    image_size: tuple[int, int]

    def encode(self, x: Tensor) -> Tensor:
        """Tokens (B, N) int64 or (B, N, C) float, in the order of the layout, of pictures (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens, and their standard deviation (B, N, C) if a generator is to be trained on samples around them."""
        return self.encode(x), None

    def decode(self, values: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in about [-1, 1] (clamping is the caller's business) of tokens.

        The last bits may depend on the batch; decode picture by picture where they matter.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Bottleneck]:
        """Reconstruction (B, 3, H, W) and the bottleneck behind it: what training needs, and only training."""
        raise NotImplementedError(f"{type(self).__name__} cannot be trained")

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure on training pictures, after the training, what the config must say of the tokens; codes need nothing.

        Args:
            batches: Clean pictures (B, 3, H, W) in [-1, 1].
        """
