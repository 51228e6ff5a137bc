"""Objective of tokenizers of pictures of unlike sizes, which are packed: a step costs what its tokens cost.

Every picture has the same share in the loss, however large it is, so packed pictures have the loss of pictures one by
one, and micro-batches may be divided in any way.

Shapes: B pictures, H x W pixels of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.draws import sample_draws
from arzoo.data.any_size import AnySizeSet, same_rows
from arzoo.data.base import ImageSet
from arzoo.data.transforms import augment, composite, to_model, to_uint8
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer
from arzoo.train.clips import sheet
from arzoo.train.devices import processes
from arzoo.train.objective import DATA, Metrics
from arzoo.train.tokenizer import TokenizerObjective
from arzoo.viz.grid import framed

SMALLEST = 32
"""Side to which the edges of smaller pictures are repeated for the perceptual network, which cannot see them."""
PART = 32
"""Pictures that are packed at once where no gradients are needed."""


class AnySizeObjective(TokenizerObjective):
    """Trains a tokenizer of any size on pictures that keep their shapes.

    Arguments as of `TokenizerObjective`.

    Raises:
        ArzooError: The loss has a discriminator or an alignment, or several processes train; also as
            `TokenizerObjective`.
    """

    train: AnySizeSet
    validation: AnySizeSet
    tokenizer: LongCatTokenizer

    def __init__(
        self, tokenizer: LongCatTokenizer, data: AnySizeSet, loss: TokenizerLossConfig, *more: Any
    ) -> None:
        if loss.adversarial:
            raise ArzooError(
                f"loss.adversarial={loss.adversarial:g} needs pictures of one size, which the batch norm of the "
                "discriminator averages over: set loss.adversarial=0, or sizes=square"
            )
        if loss.align:
            raise ArzooError(
                f"loss.align={loss.align:g} compares pictures of one size with features: set loss.align=0, or "
                "sizes=square"
            )
        if processes().num_processes > 1:
            raise ArzooError(
                "a tokenizer of pictures of unlike sizes trains in one process, since their numbers of tokens differ: "
                "start it without the launcher, or set sizes=square"
            )
        super().__init__(tokenizer, data, loss, *more)

    def compared_size(self, data: ImageSet) -> tuple[int, int]:
        """(H, W) of the smallest pictures that the perceptual network compares."""
        height, width = (max(side, SMALLEST) for side in data.least_size)
        return height, width

    def compared(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) with their edges repeated up to the smallest size that the perceptual network sees."""
        below, right = (max(SMALLEST - side, 0) for side in x.shape[2:])
        return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x

    def pictures(self, numbers: Sequence[int]) -> list[Tensor]:
        """Return augmented pictures (1, 3, H, W) in [-1, 1], in the order of their samples."""
        rows = self.sampler.rows(numbers)
        uniform = sample_draws(self.seed, numbers, DATA).uniform((len(rows), 9), torch.float32)
        pictures = [torch.zeros(0)] * len(rows)
        for places in self.train.by_size(rows):
            some = rows[places]
            x = augment(self.train.pixels(some), self.train.mirrorable[some], uniform[places], self.policy)
            for place, picture in zip(places.tolist(), x.split(1), strict=True):
                pictures[place] = picture
        return pictures

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the loss of the tokenizer, the mean over the pictures of a micro-batch."""
        clips, bottleneck = parts[name]([as_clips(x) for x in batch])
        rebuilt = [as_pictures(clip) for clip in clips]
        loss, terms = batch[0].new_zeros(()), dict[str, Tensor]()
        for places in same_rows(torch.tensor([x.shape[2:] for x in batch])):
            x, y = (
                torch.cat([pictures[place] for place in places.tolist()]) for pictures in (batch, rebuilt)
            )
            frames = self.compared(x), self.compared(y)
            # The terms of the bottleneck are those of all pictures, and the shares add up to 1.
            of_size, figures = self.criterion.generator(x, y, bottleneck, None, step, frames=frames)
            share = len(places) / len(batch)
            loss = loss + share * of_size
            terms = {key: terms.get(key, 0) + share * value for key, value in figures.items()}
        return loss, terms

    def vectors_of(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """Vectors (n, C) that the codebook quantizes, of the augmented pictures of some samples."""
        clips = [as_clips(x).to(device) for x in self.pictures(numbers)]
        parts = (clips[first : first + PART] for first in range(0, len(clips), PART))
        return torch.cat([z.flatten(0, 1) for part in parts for z in self.tokenizer.latents_packed(part)])

    @torch.inference_mode()
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save a sheet of held-out pictures, each row above its reconstructions."""
        assert isinstance(model, LongCatTokenizer)
        device, columns = next(model.parameters()).device, 16
        rows = torch.linspace(0, len(self.validation) - 1, 2 * columns).long()
        originals = [composite(self.validation.pixels(row[None])) for row in rows]
        clips = [as_clips(to_model(picture)).to(device) for picture in originals]
        rebuilt = [to_uint8(clip)[:, 0].cpu() for clip in model.decode_packed(model.encode_packed(clips))]
        cells = framed([picture[0] for picture in (*originals, *rebuilt)])[:, None]
        rows_of_both = zip(*(part.split(columns) for part in cells.chunk(2)), strict=True)
        sheet(torch.cat([row for both in rows_of_both for row in both]), columns).save(
            folder / f"reconstructions_{step:07d}.png"
        )

    def tokens_each(self) -> str:
        """Numbers of tokens of the pictures, in words."""
        counts = (self.train.sizes // self.tokenizer.config.factor).prod(1)
        return f"{int(counts.min())} to {int(counts.max())}, {float(counts.float().mean()):.1f} on average"
