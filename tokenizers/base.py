"""What a tokenizer promises: pictures to tokens and back."""

from __future__ import annotations

from torch import Tensor, nn

from arzoo.config import Config
from arzoo.hub import Shared
from arzoo.tokens import TokenSpec


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

    def decode(self, values: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in about [-1, 1] (clamping is the caller's business) of tokens.

        The last bits may depend on the batch; decode picture by picture where they matter.
        """
        raise NotImplementedError
