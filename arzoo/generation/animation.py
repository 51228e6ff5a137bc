"""Animations: how pictures look after each step of their drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from arzoo.generation.drawings import Drawings, DrawingStep
from arzoo.viz.clips import clip_sheet

MOST = 32


def shown(steps: Sequence[int], most: int = MOST) -> set[int]:
    """Return the steps after which a frame is taken: all, or so many, evenly spread, with the first and the last."""
    places = torch.linspace(0, len(steps) - 1, min(len(steps), most)).round()
    return {steps[int(place)] for place in places}


class Animation:
    """Collects previews while `Generator.generate` draws, one batch at a time.

    Args:
        write: Called once for every picture, with its number and its frames (F, H, W, 3) uint8; the last frame is the
            picture itself. A frame of a clip is a sheet of its frames in a row.
        steps: Steps that draw something; by default all of the plan.
        most: Largest number of frames.

    Example:
        >>> animation = Animation(save)                                             # doctest: +SKIP
        >>> model.generate(classes=[0, 5], watch=animation.watch)                   # doctest: +SKIP
        >>> animation.finish()                                                      # doctest: +SKIP
    """

    def __init__(
        self, write: Callable[[int, Tensor], None], steps: Sequence[int] | None = None, most: int = MOST
    ) -> None:
        self._write, self._steps, self._most = write, steps, most
        self._index = torch.empty(0, dtype=torch.long)
        self._frames: dict[int, Tensor] = {}
        self._last: DrawingStep | None = None

    def watch(self, index: Tensor, step: DrawingStep) -> None:
        """Take a frame of the pictures with the numbers `index` (B,), if one is due after this step."""
        if self._last is not None and step.run is not self._last.run:
            self.finish()
        self._index, self._last = index, step
        if step.k in shown(self._steps or range(len(step.run.plan)), self._most):
            self._frames[step.k] = _stills(step.preview())

    def finish(self) -> None:
        """Write the animations of the last batch, which may have ended before the last step of its plan."""
        if self._last is None:
            return
        if self._last.k not in self._frames:
            self._frames[self._last.k] = _stills(self._last.preview())
        for row, number in enumerate(self._index.tolist()):
            self._write(number, torch.stack([frame[row] for frame in self._frames.values()]))
        self._frames, self._last = {}, None


def _stills(drawings: Drawings) -> Tensor:
    """Pictures (B, H, W, 3) uint8, of clips the sheets of their frames."""
    if drawings.shape[1] == 1:
        return drawings.stills
    return torch.stack([torch.from_numpy(np.array(clip_sheet(clip[None]))) for clip in drawings])
