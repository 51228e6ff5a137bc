"""Common base of convolutional tokenizers on a grid: sizes, and the way between frames of a clip and tokens.

Shapes: B clips, T frames, F = B * T frames of all clips, H x W pixels, h x w tokens of a frame, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.core.clips import fold_frames
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.convolutional import Decoder, Encoder


def grid_of(x: Tensor, spec: TokenSpec) -> Grid:
    """Grid of the tokens of clips (B, 3, T, H, W).

    Raises:
        ArzooError: There are not three channels, or the sizes are not multiples of what a token covers.
    """
    if x.dim() != 5 or x.shape[1] != 3:
        raise ArzooError(
            f"a tokenizer takes clips (B, 3, T, H, W), got {tuple(x.shape)}. A picture (B, 3, H, W) is a clip of "
            "one frame: arzoo.core.clips.as_clips(x). Drawings and PIL images: encode_images(images)."
        )
    layout = spec.layout_of(x.shape[2:])
    assert isinstance(layout, Grid)
    return layout


@dataclass(frozen=True, kw_only=True)
class GridTokenizerConfig(Config):
    """Sizes of a `GridTokenizer`.

    Attributes:
        image_size: Side of the square pictures.
        frames: Frames of a clip, each of which is encoded by itself; 1 for pictures.
        widths: Encoder channels of each level, finest first; the grid halves between levels.
        decoder_widths: The same for the decoder; () means the encoder's.
        encoder_blocks: Residual blocks per encoder level.
        decoder_blocks: Residual blocks per decoder level.
        unshuffle: Side of the patches that the first and last convolutions see as one pixel.
    """

    image_size: int = 256
    frames: int = 1
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
        """Width of a token in pixels."""
        return self.unshuffle * 2 ** (len(self.widths) - 1)


class GridTokenizer(Tokenizer):
    """A convolutional encoder and decoder around a bottleneck that makes tokens, frame by frame.

    Sizes other than `image_size` and `frames` work as long as the factor divides the sides.

    Args:
        config: Sizes.
        **tokens: Kind of token: `vocab` or `channels` of `TokenSpec`.
    """

    config: GridTokenizerConfig
    strictly_causal = True
    encoder: Encoder
    decoder: Decoder

    def __init__(self, config: GridTokenizerConfig, **tokens: int) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // config.factor
        self.image_size, self.frames = (config.image_size, config.image_size), config.frames
        grid = Grid(config.frames, side, side)
        self.spec = TokenSpec(grid, downscale=(1, config.factor, config.factor), **tokens)

    def frames_of(self, x: Tensor) -> Tensor:
        """The frames (F, 3, H, W) of clips (B, 3, T, H, W). Raises as `grid_of`."""
        grid_of(x, self.spec)
        return fold_frames(x)

    def on_grid(self, values: Tensor, x: Tensor) -> Tensor:
        """Arrange tokens by clip: (F, h * w, ...) of the frames of clips x -> (B, T * h * w, ...)."""
        return values.reshape(len(x), -1, *values.shape[2:])

    def tokens(self, values: Tensor, x: Tensor) -> Tokens:
        """Put tokens (F, h * w, ...) of the frames of clips x on a canvas."""
        return Tokens.of(self.on_grid(values, x), layout=self.spec.layout_of(x.shape[2:]))

    def by_frame(self, tokens: Tokens) -> tuple[Tensor, tuple[int, int]]:
        """Arrange tokens by frame: (F, h * w, ...), and (h, w). Raises as `TokenSpec.require`."""
        layout = self.spec.require(tokens)
        assert isinstance(layout, Grid)
        values = tokens.values
        return values.reshape(-1, layout.h * layout.w, *values.shape[2:]), (layout.h, layout.w)
