"""Finite scalar quantization: every channel is rounded to a few levels, and the levels together are the code.

"Finite Scalar Quantization: VQ-VAE Made Simple", 2023, section 3. Published tokenizers differ in three details, which
are arguments here: FlexTok and Cosmos widen the range by a small share and invert with atanh, NBP narrows it and uses
tan. With equal levels, about 2 % of the codes of normally distributed vectors differ between the two.

Shapes: ... any leading axes, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.quantizers.base import Quantization, Quantizer, exact

Shift = Literal["atanh", "tan", "none"]
First = Literal["fastest", "slowest"]

_SHIFTS = {"atanh": math.atanh, "tan": math.tan, "none": lambda x: 0.0}


class FSQ(Quantizer):
    """Round each channel. Nothing is learned, there is no loss, and no code can become unused for lack of updates.

    Args:
        levels: Levels of every channel, each at least 2.
        eps: Share by which the range is wider (narrower if negative) than the outermost levels.
        shift: Inverse that compensates, before tanh, the offset of even numbers of levels.
        first: Whether the first channel is the fastest or the slowest digit of a code.

    Raises:
        ArzooError: A channel has fewer than 2 levels, or there are more codes than float32 counts exactly.
    """

    def __init__(
        self,
        levels: Sequence[int],
        eps: float = 1e-3,
        shift: Shift = "atanh",
        first: First = "fastest",
    ) -> None:
        if not levels or min(levels) < 2:
            raise ArzooError(f"every channel of FSQ needs at least 2 levels, got {tuple(levels)}")
        vocab = math.prod(levels)
        if vocab > 1 << 24:
            raise ArzooError(
                f"FSQ levels {tuple(levels)} make {vocab} codes; at most {1 << 24} can be distinguished"
            )
        super().__init__(vocab, len(levels))
        # Integer products in Python: a cumulative product of floats is exact only up to 2^24.
        order = list(levels) if first == "fastest" else list(levels)[::-1]
        basis = [math.prod(order[:i]) for i in range(len(order))]
        # Plain numbers, because casting the network to half precision would round buffers.
        self.levels = list(levels)
        self.basis = basis if first == "fastest" else basis[::-1]
        self.spans = [(n - 1) * (1 + eps) / 2 for n in levels]
        self.offsets = [0.0 if n % 2 else 0.5 for n in levels]
        if shift == "atanh" and any(o >= s for o, s in zip(self.offsets, self.spans, strict=True)):
            raise ArzooError(
                f"2 levels with eps={eps} have no inverse of tanh: take shift='tan' or eps above 0"
            )
        self.shifts = [_SHIFTS[shift](o / s) for o, s in zip(self.offsets, self.spans, strict=True)]

    def bound(self, z: Tensor) -> Tensor:
        """Squash vectors (..., C) into the range of the levels, ready for rounding."""
        with exact(z.device):
            shift, span, offset = (
                z.new_tensor(n, dtype=torch.float32) for n in (self.shifts, self.spans, self.offsets)
            )
            return torch.tanh(z.float() + shift) * span - offset

    def forward(self, z: Tensor) -> Quantization:
        """Quantize (..., C). In training mode the codes are recorded as used."""
        with exact(z.device):
            bounded = self.bound(z)
            digits = bounded.round()
            levels, basis = self._integers(z.device)
            middle = levels // 2
            codes = ((digits.long() + middle) * basis).sum(-1)
            if self.training:
                self.remember(codes.flatten())
            return Quantization((bounded + (digits - bounded).detach()) / middle, codes)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., C), float32 in [-1, 1], of codes (...)."""
        levels, basis = self._integers(codes.device)
        middle = levels // 2
        return (codes[..., None] // basis % levels - middle).float() / middle

    def _integers(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.levels, device=device), torch.tensor(self.basis, device=device)
