"""Frame prediction: clips of a reference, of which a generator is given the first frames and draws the others.

The given frames are encoded and decoded, as published figures have it: they are not exactly those of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import UsageError
from arzoo.core.tokens import Tokens
from arzoo.data.pictures import Pictures
from arzoo.generation.continuation import overlaps
from arzoo.generation.generator import Generator
from arzoo.generation.regions import kept_canvas, region_of
from arzoo.metrics.samples import DrawnPictures
from arzoo.metrics.scores.reconstruction import ReconstructionBank


class ContinuedClips(DrawnPictures):
    """Continuations of clips; reading them fills a bank with the scores of the new frames beside the true ones.

    Args:
        name: What to call them.
        model: The generator.
        originals: The clips that are continued.
        rows: Number of the original of each clip.
        requests: Class or prompt of each clip.
        chosen: The rule by which they were chosen, for the protocol.
        keep: Number of first frames that are given.
        seed: Seed of the request.
        notes: Remarks for readers of the scores.

    Raises:
        UsageError: The model cannot be given so many frames, or none, as its tokens have no place in the clip.
    """

    def __init__(
        self,
        name: str,
        model: Generator,
        originals: Pictures,
        rows: Sequence[int],
        requests: Tensor | Sequence[str],
        chosen: str,
        keep: int,
        seed: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(name, model, requests, chosen, seed, notes)
        allowed = overlaps(model)
        if keep not in allowed:
            some = ", ".join(map(str, allowed)) or "none"
            raise UsageError(
                f"--keep {keep}: of the {self.frames} frames of {name} these numbers have tokens of their own: {some}"
            )
        self.originals, self.rows, self.keep = originals, rows, keep
        self.region = region_of(model, str(keep))
        self.timing = {"given": f"{keep} first frames"}
        self.bank: ReconstructionBank | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """That of drawn pictures, and the number of given frames."""
        return {**super().sampling, "given": self.keep}

    def read(self, rows: Sequence[int]) -> Tensor:
        """Draw clips (B, T, H, W, 3) uint8; on one device they are the same in any batch."""
        clips = super().read(rows)
        if self.bank is not None:
            new, true = clips[:, self.keep :].cpu(), self._originals(rows)[:, self.keep :]
            nothing = torch.zeros(len(rows), 0)
            self.bank.update(true, new, nothing, nothing, torch.as_tensor(rows))
        return clips

    def given(self, rows: Sequence[int]) -> Tokens:
        """Encode the given frames."""
        return kept_canvas(self.model, self._originals(rows), self.region)

    def _originals(self, rows: Sequence[int]) -> Tensor:
        return self.originals.read([self.rows[row] for row in rows])
