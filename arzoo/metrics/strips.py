"""Strips of pictures or clips: an original beside its reconstructions at several rates of tokens.

Shapes: n pictures or clips of T frames, S rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import to_model, to_uint8
from arzoo.metrics.rate import Rate
from arzoo.metrics.scores.reconstruction import EQUAL, psnr
from arzoo.viz.grid import PAPER, contact_sheet, legible_zoom

COLUMNS = 8
"""Pictures in a row of a sheet, unless a strip is longer."""


@dataclass(frozen=True)
class Strips:
    """Originals and their reconstructions.

    Attributes:
        rates: The S rates.
        originals: (n, H, W, 3) or (n, T, H, W, 3) uint8.
        rebuilt: (n, S, H, W, 3) or (n, S, T, H, W, 3) uint8.
        tokens: (n, S) number of tokens that reached the picture.
        psnr: (n, S) in dB, of clips the mean over their frames; equal ones have 100.
    """

    rates: Sequence[Rate]
    originals: Tensor
    rebuilt: Tensor
    tokens: Tensor
    psnr: Tensor

    def figures(self, row: int) -> list[dict[str, Any]]:
        """Return rate, tokens and PSNR of every reconstruction of a picture."""
        return _described(self.rates, self.tokens[row].tolist(), self.psnr[row].tolist())

    def means(self) -> list[dict[str, Any]]:
        """Return the same, averaged over the pictures, for every rate."""
        return _described(self.rates, self.tokens.double().mean(0).tolist(), self.psnr.mean(0).tolist())

    def sheet(self, row: int | None = None) -> Image.Image:
        """Draw the strip of one picture, or all strips; each reconstruction of a clip is a row of frames."""
        rows = slice(None) if row is None else slice(row, row + 1)
        pictures = torch.cat([self.originals[rows, None], self.rebuilt[rows]], 1)
        frames = pictures.shape[2] if pictures.dim() == 6 else 1
        captions = [
            caption
            for row in range(len(self.originals))[rows]
            for text in ("original", *map(_caption, self.figures(row)))
            for caption in (text, *[""] * (frames - 1))
        ]
        length = pictures.shape[1]
        columns = frames if frames > 1 else length * max(1, COLUMNS // length)
        zoom = legible_zoom(pictures.shape[-2])
        return contact_sheet(pictures.flatten(0, -4), columns=columns, zoom=zoom, captions=captions)


@dataclass(frozen=True)
class StripsBySize:
    """Strips of pictures of unlike sizes, those of a size together.

    Attributes:
        places: Per size, the numbers of its pictures among all.
        parts: Per size, the strips of these pictures.
    """

    places: Sequence[Tensor]
    parts: Sequence[Strips]

    def figures(self, row: int) -> list[dict[str, Any]]:
        """Return rate, tokens and PSNR of every reconstruction of a picture."""
        strips, place = self._of(row)
        return strips.figures(place)

    def means(self) -> list[dict[str, Any]]:
        """Return the same, averaged over the pictures, for every rate."""
        both = (torch.cat([getattr(part, name) for part in self.parts]) for name in ("tokens", "psnr"))
        return _described(self.parts[0].rates, *(figure.double().mean(0).tolist() for figure in both))

    def sheet(self, row: int | None = None) -> Image.Image:
        """Draw the strip of one picture, or all strips, one size below the other."""
        if row is not None:
            strips, place = self._of(row)
            return strips.sheet(place)
        sheets = [part.sheet() for part in self.parts]
        if len(sheets) == 1:
            return sheets[0]
        size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
        drawn = Image.new("RGB", size, PAPER)
        for number, sheet in enumerate(sheets):
            drawn.paste(sheet, (0, sum(other.height for other in sheets[:number])))
        return drawn

    def _of(self, row: int) -> tuple[Strips, int]:
        """Strips of the size of a picture, and its number among them."""
        for places, part in zip(self.places, self.parts, strict=True):
            if row in (numbers := places.tolist()):
                return part, numbers.index(row)
        raise IndexError(row)


def bytes_of(count: int, height: int, width: int, rates: int) -> int:
    """Return about how much memory the strips of pictures, or of frames, and their sheets take."""
    return count * (1 + rates) * height * width * 3 * (2 + legible_zoom(width) ** 2)


@torch.inference_mode()
def strips(tokenizer: Tokenizer, originals: Tensor, rates: Sequence[Rate], batch: int = 16) -> Strips:
    """Encode and decode pictures at several rates.

    Args:
        tokenizer: In evaluation mode.
        originals: (n, H, W, 3) or (n, T, H, W, 3) uint8.
        rates: The S rates.
        batch: Pictures or clips per batch.
    """
    parts = [[rebuild(tokenizer, rows, rate) for rows in originals.split(batch)] for rate in rates]
    rebuilt = torch.stack([torch.cat([pictures for pictures, _ in part]) for part in parts], 1)
    tokens = torch.stack([torch.cat([count for _, count in part]) for part in parts], 1)
    decibels = torch.stack([_mean_psnr(pictures, originals) for pictures in rebuilt.unbind(1)], 1)
    return Strips(rates, originals, rebuilt, tokens, decibels)


def rebuild(tokenizer: Tokenizer, pictures: Tensor, rate: Rate) -> tuple[Tensor, Tensor]:
    """Encode and decode one batch.

    Args:
        tokenizer: In evaluation mode.
        pictures: (B, H, W, 3) or (B, T, H, W, 3) uint8.
        rate: The rate.

    Returns:
        Reconstructions like the pictures, and their numbers of tokens (B,).
    """
    tokens = rate.encode(tokenizer, as_clips(to_model(pictures)))
    return to_uint8(tokenizer.decode(tokens)).view(pictures.shape), tokens.present.sum(1)


def _described(
    rates: Sequence[Rate], tokens: Sequence[float], decibels: Sequence[float]
) -> list[dict[str, Any]]:
    return [
        rate.to_dict() | {"tokens": round(count, 3), "psnr": round(value, 3)}
        for rate, count, value in zip(rates, tokens, decibels, strict=True)
    ]


def _mean_psnr(rebuilt: Tensor, originals: Tensor) -> Tensor:
    """PSNR (n,) of pictures, of clips the mean over their frames."""
    frames, real = (x.reshape(-1, *x.shape[-3:]) for x in (rebuilt, originals))
    return psnr(frames, real).clamp(max=EQUAL).view(len(originals), -1).mean(1)


def _caption(figure: dict[str, Any]) -> str:
    quality = f"quality {figure['quality']:g}\n" if "quality" in figure else ""
    return f"{quality}{figure['tokens']} token{'s' if figure['tokens'] != 1 else ''}\n{figure['psnr']:.2f} dB"
