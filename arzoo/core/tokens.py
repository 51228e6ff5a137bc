"""Tokens: the canvas that a generator fills, and the contract of its tokenizer.

Shapes: B samples, N positions, m positions of a group, Q codebooks, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Layout, layout_from_dict, layout_to_dict


class LatentCanvas(Protocol):
    """Partial decoding of codes in latent space, for backbones whose inputs are computed from coarser levels (VAR)."""

    @property
    def channels(self) -> int:
        """Channels C of a code's vector."""

    @property
    def table(self) -> Tensor:
        """Vectors (V, C), float32, of all codes."""

    def __call__(self, values: Tensor, upto_level: int, from_level: int = 0) -> Tensor:
        """Sum of what the levels from_level..upto_level-1 add, (B, C, h, w) at the size of the finest level, float32.

        Args:
            values: (B, N) codes of all levels, or (B, N, C) vectors in their place.
            upto_level: First level that is left out.
            from_level: First level that is summed; the sums of consecutive ranges add up.
        """


@dataclass(frozen=True)
class TokenSpec:
    """Kind and layout of a tokenizer's tokens: all that backbones, plans and heads may know about it.

    Attributes:
        layout: Positions of the canvas.
        vocab: Number of codes of a discrete token, 0 for continuous tokens.
        codebooks: Codes per position (residual or grouped quantization).
        channels: Channels of a continuous token, 0 for discrete tokens.
        prefix_ok: Any prefix of the tokens decodes to a picture (1D ordered tokenizers).
        subset_ok: Any subset of the tokens does (adaptive tokenizers, which keep as many as a picture needs).
        ends: The last codes of the vocabulary are symbols by which a generator says how many tokens a picture has, see
            `arzoo.core.ends`; no tokenizer has them.
        downscale: (frames, rows, columns) of pixels that a token of a grid covers, if the grid depends on the size of
            the clip; () if every clip has `layout`.
        first_alone: The first frame of a clip has tokens of its own, and only the frames after it share them:
            1 + downscale[0] * n frames have 1 + n frames of tokens, and a still picture has one (causal tokenizers of
            clips).
        scale: Continuous tokens are (latents - shift) * scale, where latents are the input of the decoder.
        shift: See scale.
        canvas: Partial decoding in latent space, for tokenizers whose levels add up (multi-scale VQ).
    """

    layout: Layout
    vocab: int = 0
    codebooks: int = 1
    channels: int = 0
    prefix_ok: bool = False
    subset_ok: bool = False
    ends: bool = False
    scale: float = 1.0
    shift: float = 0.0
    downscale: tuple[int, ...] = ()
    first_alone: bool = False
    canvas: LatentCanvas | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.vocab > 0) == (self.channels > 0):
            raise ArzooError(
                f"tokens are either discrete (vocab > 0) or continuous (channels > 0), got vocab={self.vocab}, "
                f"channels={self.channels}"
            )
        if not self.scale > 0 or (self.discrete and (self.scale, self.shift) != (1, 0)):
            raise ArzooError(
                "the scale of vectors must be a positive number, and codes are not scaled (scale=1, shift=0); got "
                f"scale={self.scale}, shift={self.shift} with vocab={self.vocab}"
            )

    @property
    def discrete(self) -> bool:
        """Whether a token is a code (or `codebooks` codes) rather than a vector."""
        return self.vocab > 0

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one token: () for a code, (Q,) for several codes, (C,) for a vector."""
        if self.channels:
            return (self.channels,)
        return () if self.codebooks == 1 else (self.codebooks,)

    @property
    def dtype(self) -> torch.dtype:
        """int64 for codes, float32 for vectors."""
        return torch.int64 if self.discrete else torch.float32

    def __str__(self) -> str:
        layout = self.layout
        if isinstance(layout, Grid):
            sides = (layout.t, layout.h, layout.w) if layout.t > 1 else (layout.h, layout.w)
            count = " x ".join(map(str, sides))
        else:
            count = str(layout.size)
        if not self.discrete:
            return f"{count} vectors of {self.channels} numbers"
        several = f"positions of {self.codebooks} codes" if self.codebooks > 1 else "codes"
        return f"{count} {several}, each one of {self.vocab}"

    def empty(self, batch: int, device: torch.device | str = "cpu") -> Tokens:
        """Create a canvas on which no token is known."""
        values = torch.zeros(batch, self.layout.size, *self.token_shape, dtype=self.dtype, device=device)
        known = torch.zeros(batch, self.layout.size, dtype=torch.bool, device=device)
        return Tokens.of(values, known, self.layout)

    def layout_of(self, shape: Sequence[int]) -> Layout:
        """Layout of the tokens of a clip of (T, H, W) pixels.

        Raises:
            ArzooError: A size is not a multiple of `downscale`, see also `first_alone`.
        """
        if not self.downscale:
            return self.layout
        first = int(self.first_alone)
        shared = (shape[0] - first, *shape[1:])
        if (
            len(shape) != 3
            or min(shape) < 1
            or any(n % d for n, d in zip(shared, self.downscale, strict=True))
        ):
            names = zip(("T - 1" if first else "T", "H", "W"), self.downscale, strict=True)
            multiples = ", ".join(f"{name} of {d}" for name, d in names if d > 1)
            raise ArzooError(
                f"clips of (T, H, W) = {tuple(shape)} pixels have no whole number of tokens here: the sizes must be "
                f"multiples, {multiples}. Resize or crop them."
            )
        frames, rows, columns = (n // d for n, d in zip(shared, self.downscale, strict=True))
        return Grid(first + frames, rows, columns)

    def clip_of(self, layout: Grid) -> tuple[int, int, int]:
        """Pixels (T, H, W) of the clip that tokens on a grid decode to, the inverse of `layout_of`."""
        frames, rows, columns = self.downscale
        first = int(self.first_alone)
        return first + (layout.t - first) * frames, layout.h * rows, layout.w * columns

    def require(self, tokens: Tokens) -> Layout:
        """Check tokens before decoding and return their layout.

        Raises:
            ArzooError: They do not fit this contract, or contain padding (from `Tokens.length` on) although the
                tokenizer needs all tokens.
        """
        require_tokens(tokens)
        layout = tokens.layout or self.layout
        shape = (layout.size, *self.token_shape)
        if tokens.values.shape[1:] != shape or tokens.values.is_floating_point() == self.discrete:
            kind = "codes" if self.discrete else "vectors"
            expected = ", ".join(map(str, shape))
            raise ArzooError(
                f"the tokens of {layout} are {kind} (B, {expected}), got {tuple(tokens.values.shape)} "
                f"{tokens.values.dtype}. Tokens of clips of another size say so: "
                "Tokens.of(values, layout=spec.layout_of((T, H, W)))"
            )
        if self.discrete and not bool(((tokens.values >= 0) & (tokens.values < self.vocab)).all()):
            raise ArzooError(
                f"codes must be 0 to {self.vocab - 1}, got {int(tokens.values.min())} to {int(tokens.values.max())}"
            )
        if not self.prefix_ok and not bool(tokens.kept.all()):
            row = int((tokens.length < layout.size).nonzero()[0])
            raise ArzooError(
                f"sample {row} has {int(tokens.length[row])} of {layout.size} tokens, the rest is padding, and this "
                "tokenizer needs all. Draw it to the end (no early stop), or use a tokenizer of ordered tokens, of "
                "which any prefix is a picture."
            )
        return layout

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data, without `canvas`, which is code."""
        return {
            "layout": layout_to_dict(self.layout),
            "vocab": self.vocab,
            "codebooks": self.codebooks,
            "channels": self.channels,
            "prefix_ok": self.prefix_ok,
            "subset_ok": self.subset_ok,
            "ends": self.ends,
            "scale": self.scale,
            "shift": self.shift,
            "downscale": list(self.downscale),
            "first_alone": self.first_alone,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TokenSpec:
        """Inverse of `to_dict`."""
        sizes = {"layout": layout_from_dict(data["layout"]), "downscale": tuple(data.get("downscale", ()))}
        return TokenSpec(**{**data, **sizes})


def gather_positions(values: Tensor, positions: Tensor) -> Tensor:
    """Gather values at positions.

    Args:
        values: (B, N) or (B, N, C).
        positions: (1 or B, m).

    Returns:
        (B, m) or (B, m, C).
    """
    index = positions.expand(len(values), -1)
    if values.dim() > 2:
        index = index.reshape(*index.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


class Mixed(NamedTuple):
    """Drawn tokens whose vectors are mixtures of those of several codes.

    Attributes:
        codes: (B, m) int64.
        vectors: (B, m, C) float32, which stand for the codes wherever vectors are computed from them.
    """

    codes: Tensor
    vectors: Tensor

    @staticmethod
    def interleaved(parts: Sequence[Tensor | Mixed]) -> Tensor | Mixed:
        """Rows of several draws, (B, ...) each, in turn: (B * parts, ...)."""
        if isinstance(parts[0], Mixed):
            return Mixed(*(torch.stack(part, 1).flatten(0, 1) for part in zip(*parts, strict=True)))
        return torch.stack([part for part in parts if isinstance(part, Tensor)], 1).flatten(0, 1)


@dataclass
class Tokens:
    """The canvas. Mutable: the loop commits group after group.

    Attributes:
        values: (B, N) codes, (B, N, Q) codes of several codebooks or (B, N, C) vectors.
        known: (B, N) bool, the position has a value now.
        given: (B, N) bool, the position had a value at the start and is never overwritten.
        length: (B,) number of tokens; later ones are padding (adaptive tokenizers, early stopping).
        layout: Layout of the positions; None means the tokenizer's own.
        mixed: (B, N, C) vectors of positions that were drawn as mixtures of several codes, nan at others; None if there
            are no mixtures.
    """

    values: Tensor
    known: Tensor
    given: Tensor
    length: Tensor
    layout: Layout | None = None
    mixed: Tensor | None = None

    @staticmethod
    def of(values: Tensor, known: Tensor | None = None, layout: Layout | None = None) -> Tokens:
        """Create a canvas with some positions known and given; all of them if `known` is None."""
        batch, positions = values.shape[:2]
        if known is None:
            known = torch.ones(batch, positions, dtype=torch.bool, device=values.device)
        length = torch.full((batch,), positions, device=values.device)
        return Tokens(values.clone(), known.clone(), known.clone(), length, layout)

    @property
    def kept(self) -> Tensor:
        """(B, N) bool, the position is not padding."""
        return torch.arange(self.values.shape[1], device=self.length.device) < self.length[:, None]

    @property
    def present(self) -> Tensor:
        """(B, N) bool, the position has a token and is not padding."""
        return self.known & self.kept

    def first(self, count: int) -> Tokens:
        """Keep at most the first `count` tokens of every sample; the rest becomes padding.

        Raises:
            ArzooError: The count is not from 1 to the number of positions.
        """
        positions = self.values.shape[1]
        if not 1 <= count <= positions:
            raise ArzooError(f"a prefix has 1 to {positions} tokens here, got {count}")
        return replace(self, length=self.length.clamp(max=count))

    def copy(self, device: torch.device | str | None = None) -> Tokens:
        """Copy the canvas to a device; the copy shares no memory with it."""
        values, known, given, length = (
            part.to(device or part.device, copy=True)
            for part in (self.values, self.known, self.given, self.length)
        )
        mixed = None if self.mixed is None else self.mixed.to(device or self.mixed.device, copy=True)
        return Tokens(values, known, given, length, self.layout, mixed)

    def vectors(self, table: Tensor) -> Tensor:
        """Vectors (B, N, C) of all codes by a table (V, C), with mixtures in place of those that have one."""
        vectors = F.embedding(self.values, table)
        return vectors if self.mixed is None else torch.where(self.mixed.isnan(), vectors, self.mixed)

    def at(self, positions: Tensor) -> Tensor:
        """Values (B, m, ...) at positions (1 or B, m)."""
        return gather_positions(self.values, positions)

    def commit(self, group: Tensor, values: Tensor | Mixed, positions: Tensor) -> None:
        """Write one group and mark it known. Given tokens stay.

        Args:
            group: (1 or B, m) positions to write.
            values: (B, m', ...) values drawn at `positions`, or mixtures of codes.
            positions: (1 or B, m') a superset of `group`, because heads that draw jointly return more than the group.
        """
        batch = len(self.values)
        values, vectors = values if isinstance(values, Mixed) else (values, None)
        if positions is not group:
            match = positions.expand(batch, -1)[:, None] == group.expand(batch, -1)[:, :, None]
            place = match.int().argmax(2)
            values = gather_positions(values, place)
            vectors = None if vectors is None else gather_positions(vectors, place)
        index = group.expand(batch, -1)
        keep = self.given.gather(1, index)
        self._mix(index, keep, vectors)
        keep = keep.reshape(*keep.shape, *[1] * (self.values.dim() - 2))
        new = torch.where(keep, self.at(group), values.to(self.values.dtype))
        self.values.scatter_(1, index.reshape(*keep.shape).expand_as(new), new)
        self.known.scatter_(1, index, True)

    def _mix(self, index: Tensor, keep: Tensor, vectors: Tensor | None) -> None:
        """Write the mixtures (B, m, C) of a group (B, m), or that it has none, where a token does not stay."""
        if self.mixed is None:
            if vectors is None:
                return
            self.mixed = vectors.new_full((*self.values.shape, vectors.shape[2]), math.nan)
        new = torch.full_like(self.mixed[:, :1], math.nan) if vectors is None else vectors
        old = gather_positions(self.mixed, index)
        new = torch.where(keep[..., None], old, new)
        self.mixed = self.mixed.scatter(1, index[..., None].expand_as(new), new)

    def mark_known(self, group: Tensor) -> None:
        """Mark a group, whose values are given, as known."""
        self.known.scatter_(1, group.expand(len(self.known), -1), True)

    def finish(self, done: Tensor, length: int) -> bool:
        """Set the length of samples that are done.

        Args:
            done: (B,) bool.
            length: Number of tokens that these samples keep.

        Returns:
            Whether every sample is finished.
        """
        size = self.values.shape[1]
        self.length = torch.where(done & (self.length == size), length, self.length)
        return bool((self.length < size).all())

    def select(self, index: Tensor) -> Tokens:
        """Copy some rows, in the order of `index` (repeats allowed)."""
        return replace(
            self,
            values=self.values[index],
            known=self.known[index],
            given=self.given[index],
            length=self.length[index],
            mixed=None if self.mixed is None else self.mixed[index],
        )


def require_tokens(tokens: object) -> None:
    """Raise an error for anything but `Tokens`, for example for their values alone.

    Raises:
        ArzooError: The argument is something else.
    """
    if not isinstance(tokens, Tokens):
        raise ArzooError(
            f"tokens must be a Tokens object, got {type(tokens).__name__}; wrap values with Tokens.of(values)"
        )
