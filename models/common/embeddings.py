"""Embeddings that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.tokens import gather_positions
from arzoo.models.common.activations import gelu_tanh, silu

FREQUENCIES = 128
"""Frequencies of the sinusoidal time embedding."""


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time through two layers ("Denoising Diffusion Probabilistic Models", 2020, appendix B)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times (...) from 0 to 1000 as (..., W); times need not be integers."""
        order = torch.arange(FREQUENCIES, device=t.device, dtype=torch.float32)
        angle = t.float()[..., None] * torch.exp(-math.log(10000) / FREQUENCIES * order)
        waves = torch.cat([angle.cos(), angle.sin()], -1).to(self.fc1.weight.dtype)
        return self.fc2(silu(self.fc1(waves)))


def time_tensor(t: Tensor | float, device: torch.device) -> Tensor:
    """Time of a solver as a float32 tensor; a number is filled in on the device, because copying it would block."""
    if isinstance(t, Tensor):
        return t.to(device, torch.float32)
    return torch.full((), t, dtype=torch.float32, device=device)


def token_table(vocab: int, codebooks: int, channels: int, width: int) -> nn.Embedding | nn.Linear:
    """Create the embedding of tokens: a row per code, those of all codebooks one after another, or a projection."""
    return nn.Linear(channels, width) if channels else nn.Embedding(vocab * codebooks, width)


def embed_tokens(table: nn.Embedding | nn.Linear, values: Tensor, index: Tensor, vocab: int) -> Tensor:
    """Embed the tokens at positions `index` (R, S) as (R, S, W); `values` and `vocab` as of `embed_all`."""
    return embed_all(table, gather_positions(values, index), vocab)


def embed_all(table: nn.Embedding | nn.Linear, values: Tensor, vocab: int) -> Tensor:
    """Embed tokens.

    Args:
        table: See `token_table`.
        values: (R, S) or (R, S, Q) codes, or (R, S, C) vectors.
        vocab: Codes of a codebook.

    Returns:
        (R, S, W); the embeddings of several codes of a position are added up.
    """
    if not isinstance(table, nn.Embedding):
        return table(values.to(table.weight.dtype))
    if values.dim() == 2:
        return table(values)
    return table(values + vocab * torch.arange(values.shape[2], device=values.device)).sum(2)


class LabelPrefix(nn.Module):
    """One token per class; the last row of the table is the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.null = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, cond: Cond) -> Tensor:
        """Embed the classes as (R, 1, D)."""
        return self.table(cond.label_or(self.null))[:, None]


class TextPrefix(nn.Module):
    """A caption's features projected to the width of the network; the null caption is a fixed random table."""

    null: Tensor

    def __init__(self, text_width: int, length: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(text_width, width, bias=False)
        self.fc2 = nn.Linear(width, width, bias=False)
        self.register_buffer("null", torch.randn(length, text_width) / text_width**0.5)

    def forward(self, cond: Cond) -> Tensor:
        """Project caption features to (R, L, D).

        Raises:
            ArzooError: The condition has no text, or its features have another size.
        """
        if cond.text is None or cond.text_mask is None:
            raise ArzooError("this model is text-conditional: give caption features and their mask")
        if cond.text.shape[1:] != self.null.shape:
            given, taken = tuple(cond.text.shape[1:]), tuple(self.null.shape)
            raise ArzooError(f"caption features are {given}, the model takes {taken}")
        text = torch.where(cond.dropped[:, None, None], self.null, cond.text.to(self.null.dtype))
        return self.fc2(gelu_tanh(self.fc1(text)))
