"""What convolutional tokenizers on a grid share: sizes, and the checks of what they are given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
from arzoo.tokenizers.common.convolutional import Decoder, Encoder


@dataclass(frozen=True, kw_only=True)
class GridTokenizerConfig(Config):
    """Sizes of a `GridTokenizer`.

    Attributes:
        image_size: Side of the square pictures.
        widths: Encoder channels of each level, finest first; the grid halves between levels.
        decoder_widths: The same for the decoder; () is the encoder's.
        encoder_blocks: Residual blocks an encoder level.
        decoder_blocks: Residual blocks a decoder level.
        unshuffle: Side of the patches that the first and last convolution see as one pixel.
    """

    image_size: int = 256
    widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    decoder_widths: tuple[int, ...] = ()
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    unshuffle: int = 1

    def __post_init__(self) -> None:
        if self.decoder_widths and len(self.decoder_widths) != len(self.widths):
            raise ArzooError(
                f"encoder and decoder need the same levels, got {self.widths} and {self.decoder_widths}"
            )
        if self.image_size % self.factor:
            raise ArzooError(
                f"pictures of side {self.image_size} do not divide by the downsampling factor {self.factor}"
            )

    @property
    def factor(self) -> int:
        """Pixels a token is wide."""
        return self.unshuffle * 2 ** (len(self.widths) - 1)


class GridTokenizer(Tokenizer):
    """A convolutional encoder and decoder with something between them that makes tokens.

    Other sizes than `image_size` work as long as the factor divides them.

    Args:
        config: Sizes.
        **tokens: What a token is: `vocab` or `channels` of `TokenSpec`.
    """

    config: GridTokenizerConfig
    encoder: Encoder
    decoder: Decoder

    def __init__(self, config: GridTokenizerConfig, **tokens: int) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // config.factor
        self.image_size = (config.image_size, config.image_size)
        self.spec = TokenSpec(Grid(1, side, side), **tokens)

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output (B, latent, h, w) for pictures (B, 3, H, W) in [-1, 1].

        Raises:
            ArzooError: The sides do not divide by the downsampling factor, or the pictures do not have three channels.
        """
        factor = self.config.factor
        if x.dim() != 4 or x.shape[1] != 3 or x.shape[2] % factor or x.shape[3] % factor:
            raise ArzooError(
                f"pictures must be (B, 3, H, W) with sides that are multiples of {factor}, got {tuple(x.shape)}"
            )
        return self.encoder(x)

    def places(self, values: Tensor, grid: tuple[int, int] | None) -> tuple[int, int]:
        """(h, w) on which tokens lie.

        Args:
            values: Tokens in raster order.
            grid: (h, w) of pictures that are not of the tokenizer's own size.

        Raises:
            ArzooError: There are not as many tokens as places, or they are not of this tokenizer's kind.
        """
        layout = self.spec.layout
        assert isinstance(layout, Grid)
        h, w = grid or (layout.h, layout.w)
        shape = (h * w, *self.spec.token_shape)
        if values.shape[1:] != shape:
            expected = ", ".join(map(str, shape))
            raise ArzooError(
                f"a picture has {h} x {w} tokens here, so they come as (B, {expected}); got {tuple(values.shape)}"
            )
        return h, w
