"""The TiTok tokenizer: pictures to a fixed number of tokens and back, or back from any prefix (One-D-Piece)."""

from __future__ import annotations

from torch import Tensor, nn

from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.lengths import ERRORS, shortest_prefix, target_errors
from arzoo.tokenizers.common.prefix import refuse_empty
from arzoo.tokenizers.common.still_pictures import pictures_of, to_unit
from arzoo.tokenizers.kl.posterior import Posterior
from arzoo.tokenizers.quantizers.vq import VectorQuantizer
from arzoo.tokenizers.titok.network import TiTokConfig, TiTokDecoder, TiTokEncoder
from arzoo.tokenizers.vq.maskgit import MaskGITDecoder


class TiTok(Tokenizer):
    """Tokenizer of pictures as K tokens.

    Args:
        config: Sizes.
    """

    config: TiTokConfig

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = (config.image_size, config.image_size)
        kind = {"vocab": config.vocab} if config.vocab else {"channels": config.channels}
        self.spec = TokenSpec(Ordered(config.tokens), prefix_ok=config.any_prefix, **kind)
        self.qualities = ERRORS if config.any_prefix else None
        self.encoder, self.decoder = TiTokEncoder(config), TiTokDecoder(config)
        self.quantizer = (
            VectorQuantizer(config.vocab, config.channels, unit=config.unit) if config.vocab else None
        )
        if config.legacy:
            self.pixel_codes = nn.Embedding(config.pixels.vocab, config.pixels.channels)
            self.pixel_decoder = MaskGITDecoder(config.pixels)

    def posterior(self, x: Tensor) -> Posterior:
        """Distribution (B, Z, K, 1) of continuous tokens of pictures (B, 3, H, W) in [-1, 1]."""
        return Posterior.of(self.encoder(to_unit(x)).transpose(1, 2)[..., None])

    def encode(self, x: Tensor, quality: float | Tensor | None = None, draws: Draws | None = None) -> Tokens:
        """Encode pictures (B, 3, 1, H, W) in [-1, 1].

        Args:
            x: Pictures.
            quality: Acceptable mean absolute error of pixels in [0, 1], one number or (B,): the shortest prefix that
                reaches it is kept (`lengths.shortest_prefix`); without it, all tokens.
            draws: Randomness for sampling continuous tokens; without it they are the mean.

        Raises:
            ArzooError: They are not still pictures of the tokenizer's size, a quality is out of range, or it is given
                although pictures need all tokens.
        """
        tokens = self._all_tokens(x, draws)
        if quality is None:
            return tokens
        target = target_errors(quality, self.qualities, len(x))
        return shortest_prefix(self.decode, tokens, x, target).tokens

    def _all_tokens(self, x: Tensor, draws: Draws | None) -> Tokens:
        pictures = pictures_of(x, self.image_size)
        if self.quantizer is not None:
            return Tokens.of(self.quantizer(self.encoder(to_unit(pictures))).codes, layout=self.spec.layout)
        posterior = self.posterior(pictures)
        z = posterior.mean
        if draws is not None:
            z = posterior.sample(draws.normal(z.shape).to(z.device))
        return Tokens.of(z[..., 0].transpose(1, 2), layout=self.spec.layout)

    def distribution(self, x: Tensor) -> tuple[Tokens, Tensor | None]:
        """Tokens; for vectors their mean, and standard deviation (B, K, Z)."""
        tokens = self.encode(x)
        if self.quantizer is not None:
            return tokens, None
        posterior = self.posterior(pictures_of(x, self.image_size))
        return tokens, posterior.std[..., 0].transpose(1, 2)

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode tokens to pictures (B, 3, 1, H, W) in about [-1, 1].

        Raises:
            ArzooError: They are not tokens of this tokenizer, or a picture has none.
        """
        self.spec.require(tokens)
        refuse_empty(tokens)
        values = tokens.values if self.quantizer is None else self.quantizer.vectors_of(tokens)
        return as_clips(self.pictures(self.decoder(values, tokens.kept)) * 2 - 1)

    def pictures(self, rebuilt: Tensor) -> Tensor:
        """Turn the output of the decoder into pictures (B, 3, H, W) in about [0, 1]."""
        if not self.config.legacy:
            return rebuilt
        vectors = rebuilt.softmax(-1) @ self.pixel_codes.weight
        side = self.config.grid
        return self.pixel_decoder(vectors.transpose(1, 2).unflatten(2, (side, side)))
