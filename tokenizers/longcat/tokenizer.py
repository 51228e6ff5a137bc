"""The tokenizer of LongCat-Next: pictures of any size to residual codes on a grid and back, many sizes at a time.

Shapes: B clips, T frames, F = B * T frames of all clips, H x W pixels, h x w tokens of a frame, N = T * h * w tokens of
a clip, Q levels, C channels of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.clips import fold_frames, unfold_frames
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.sizes import Sizes
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.vision.transformers import CLIP_COLORS
from arzoo.tokenizers.common.grid import grid_of
from arzoo.tokenizers.common.resolution import fit_pictures
from arzoo.tokenizers.longcat.network import LongCatConfig, LongCatEncoder, PixelDecoder
from arzoo.tokenizers.longcat.patches import Places, Size, to_patches, to_pictures
from arzoo.tokenizers.quantizers.base import Quantization
from arzoo.tokenizers.quantizers.residual import ResidualVQ


class LongCatTokenizer(Tokenizer):
    """Tokenizer of pictures of any size, and of clips frame by frame.

    `encode_packed` and `decode_packed` take pictures of unlike sizes at once.

    Args:
        config: Sizes.
    """

    config: LongCatConfig
    sizes: Sizes
    strictly_causal = True

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        self.config, side = config, config.image_size // config.factor
        self.image_size = (config.image_size, config.image_size)
        self.sizes = Sizes(config.factor, config.least_pixels, config.most_pixels)
        downscale = (1, config.factor, config.factor)
        self.spec = TokenSpec(
            Grid(1, side, side), vocab=config.vocab, codebooks=config.codebooks, downscale=downscale
        )
        self.encoder = LongCatEncoder(config)
        self.quantizer = ResidualVQ(
            config.vocab,
            config.code_channels,
            config.codebooks,
            config.shared,
            config.codebook_dropout,
            config.decay,
        )
        self.decoder = PixelDecoder(config) if config.decoder is not None else None

    def fit(self, pictures: Tensor) -> Tensor:
        """Resize pictures (B, 3, H, W) in [-1, 1] to the nearest size that has whole tokens and allowed pixels.

        Raises:
            ArzooError: They are too long and thin, or there is no such size.
        """
        return fit_pictures(pictures, self.sizes)

    def latents(self, x: Tensor) -> Tensor:
        """Vectors before quantization: (B, 3, T, H, W) in [-1, 1] -> (F, h * w, C)."""
        return self.latents_packed([x])[0]

    def latents_packed(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Vectors (F, h * w, C) of clips (B, 3, T, H, W) of unlike sizes, in one pass."""
        config, grids = self.config, [grid_of(x, self.spec) for x in clips]
        for grid in grids:
            self._require(grid)
        frames = [fold_frames(self._scaled(x)) for x in clips]
        counts = [(len(x), grid.h * grid.w) for x, grid in zip(frames, grids, strict=True)]
        patches = [to_patches(x, config.patch, config.merge, config.patch_frames) for x in frames]
        sizes = _sizes(grids, [count for count, _ in counts])
        stack = config.encoder
        places = Places(
            sizes, config.merge, stack.width // stack.heads, patches[0].device, window=config.window
        )
        z = self.encoder(torch.cat(patches), places)
        return [
            part.unflatten(0, count)
            for part, count in zip(z.split([n * size for n, size in counts]), counts, strict=True)
        ]

    def forward(self, x: Tensor | Sequence[Tensor]) -> tuple[Any, Quantization]:
        """Reconstruct clips (B, 3, T, H, W), and the quantization of all their frames.

        Samples of unlike sizes are a sequence of pictures (1, 3, 1, H, W), and so are their reconstructions. Every
        picture then has the same share in the losses of the quantization, however many tokens it has.
        """
        if not isinstance(x, Tensor):
            return self._forward_packed(x)
        quantized = self.quantizer(self.latents(x))
        return self._decoded([quantized.vectors], [grid_of(x, self.spec)], [len(x)])[0], quantized

    def _forward_packed(self, pictures: Sequence[Tensor]) -> tuple[list[Tensor], Quantization]:
        """Reconstruct pictures (1, 3, 1, H, W), see `forward`."""
        latents = [z[0] for z in self.latents_packed(pictures)]
        flat, counts = torch.cat(latents), [len(z) for z in latents]
        # One row a picture, as long for all: numbers of a sample must not depend on the others.
        limit = self.config.most_pixels // self.config.factor**2
        normal = torch.randn_like(flat.new_empty(len(counts), limit, dtype=torch.float32))
        keep = self.quantizer.levels_kept(
            torch.cat([row[:count] for row, count in zip(normal, counts, strict=True)])
        )
        share = torch.cat([flat.new_full((n,), 1 / (n * len(counts)), dtype=torch.float32) for n in counts])
        quantized = self.quantizer(flat, keep, share)
        grids = [grid_of(x, self.spec) for x in pictures]
        return self._decoded(quantized.vectors.split(counts), grids, [1] * len(counts)), quantized

    def encode(self, x: Tensor) -> Tokens:
        """Encode clips (B, 3, T, H, W) in [-1, 1] as codes (B, N, Q), or (B, N) of a single level.

        Raises:
            ArzooError: Their sides are no multiples of a token's, or they have too few or too many pixels; `fit`
                resizes pictures of any size.
        """
        return self.encode_packed([x])[0]

    def encode_packed(self, clips: Sequence[Tensor]) -> list[Tokens]:
        """Encode clips of unlike sizes, (B, 3, T, H, W) each, in one pass; results and errors as of `encode`."""
        tokens = []
        for x, z in zip(clips, self.latents_packed(clips), strict=True):
            codes = self.quantizer(z).codes.reshape(len(x), -1, self.config.codebooks)
            codes = codes if self.config.codebooks > 1 else codes[..., 0]
            tokens.append(Tokens.of(codes, layout=grid_of(x, self.spec)))
        return tokens

    def decode(self, tokens: Tokens, levels: int | None = None) -> Tensor:
        """Decode codes to clips (B, 3, T, H, W) in about [-1, 1].

        Args:
            tokens: Codes on a grid of any size, which `layout` says.
            levels: Number of levels to use, the first ones; None means all.

        Raises:
            ArzooError: They are not tokens of this tokenizer, or of too few or too many pixels, there are not so many
                levels, or the tokenizer has no pixel decoder.
        """
        return self.decode_packed([tokens], levels)[0]

    def decode_packed(self, tokens: Sequence[Tokens], levels: int | None = None) -> list[Tensor]:
        """Decode tokens of pictures of unlike sizes in one pass; arguments, results and errors as of `decode`."""
        if levels is not None and not 1 <= levels <= self.config.codebooks:
            raise ArzooError(f"a token has 1 to {self.config.codebooks} levels here, got levels={levels}")
        vectors, grids = [], []
        for canvas in tokens:
            grid = self.spec.require(canvas)
            assert isinstance(grid, Grid)
            self._require(grid)
            values = canvas.values if canvas.values.dim() == 3 else canvas.values[..., None]
            vectors.append(self.quantizer.vectors_of(replace(canvas, values=values[..., :levels])))
            grids.append(grid)
        return self._decoded(vectors, grids, [len(canvas.values) for canvas in tokens])

    def _decoded(
        self, vectors: Sequence[Tensor], grids: Sequence[Grid], batches: Sequence[int]
    ) -> list[Tensor]:
        """Decode vectors (B * N, C in any shape) of several sizes to clips (B, 3, T, H, W)."""
        config, stack = self.config, self.config.decoder
        if self.decoder is None or stack is None:
            raise ArzooError(
                "this tokenizer only encodes: it has no pixel decoder (decoder=null). Published weights have theirs in "
                "a second file: convert both, with the setting pixel_decoder=FILE"
            )
        flat = torch.cat([part.reshape(-1, config.code_channels) for part in vectors])
        counts = [batch * grid.t for batch, grid in zip(batches, grids, strict=True)]
        places = Places(
            _sizes(grids, counts),
            config.merge,
            stack.width // stack.heads,
            flat.device,
            row_by_row=config.row_by_row,
        )
        patches = self.decoder(flat.to(self.decoder.head2.weight.dtype), places)
        lengths = [n * grid.h * grid.w * config.merge**2 for n, grid in zip(counts, grids, strict=True)]
        clips = []
        for part, grid, batch in zip(patches.split(lengths), grids, batches, strict=True):
            frames = to_pictures(part, (grid.h, grid.w), config.patch, config.merge, config.patch_frames)
            clips.append(self._unscaled(unfold_frames(frames, batch)))
        return clips

    def _require(self, grid: Grid) -> None:
        """Refuse grids of pictures with too few or too many pixels."""
        config, (_, height, width) = self.config, self.spec.clip_of(grid)
        if not config.least_pixels <= height * width <= config.most_pixels:
            raise ArzooError(
                f"pictures of {height} x {width} are {height * width} pixels, and this tokenizer takes "
                f"{config.least_pixels} to {config.most_pixels}. Resize them: tokenizer.fit(pictures)"
            )

    def _scaled(self, x: Tensor) -> Tensor:
        """Colors as the encoder takes them, of clips in [-1, 1]."""
        if not self.config.clip_colors:
            return x
        mean, std = _clip_colors(x)
        return ((x + 1) / 2 - mean) / std

    def _unscaled(self, x: Tensor) -> Tensor:
        """Colors in about [-1, 1], of clips as the pixel decoder gives them."""
        if not self.config.clip_colors:
            return x
        mean, std = _clip_colors(x)
        return (x * std + mean) * 2 - 1


def _clip_colors(like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1, 1) of the colors of CLIP."""
    mean, std = like.new_tensor(CLIP_COLORS).view(2, 3, 1, 1, 1)
    return mean, std


def _sizes(grids: Sequence[Grid], counts: Sequence[int]) -> list[Size]:
    """(h, w) of every frame, of so many frames of each grid."""
    return [(grid.h, grid.w) for grid, count in zip(grids, counts, strict=True) for _ in range(count)]
