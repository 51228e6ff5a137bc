"""What windows that are tokenized one by one do to a long clip, see `arzoo.tokenizers.common.windows`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.metrics.scores.reconstruction import EQUAL


@dataclass(frozen=True)
class Seams:
    """PSNR in dB, means over clips and places, equal ones counted as `EQUAL`.

    Attributes:
        frames_at: Of the two frames beside a seam.
        frames_inside: Of the other frames.
        changes_at: Of the change from the frame before a seam to the one after it.
        changes_inside: Of the changes between frames of one window. A seam shows where `changes_at` is lower.
    """

    frames_at: float
    frames_inside: float
    changes_at: float
    changes_inside: float


def seam_psnr(originals: Tensor, rebuilt: Tensor, window: int) -> Seams:
    """Compare a reconstruction in windows beside its seams with the rest of it.

    Args:
        originals: Clips (B, T, H, W, 3) uint8.
        rebuilt: Their reconstructions, alike.
        window: Frames of a window, at least 3; the clips have more.

    Raises:
        ArzooError: The shapes differ, or there is no seam or nothing inside of a window.
    """
    frames = originals.shape[1]
    if originals.shape != rebuilt.shape or not 3 <= window < frames:
        raise ArzooError(
            f"seams lie between windows of at least 3 frames in clips of more, got windows of {window}, clips "
            f"{tuple(originals.shape)} and reconstructions {tuple(rebuilt.shape)}"
        )
    a, b = originals.double(), rebuilt.double()
    before = [t for t in range(frames - 1) if (t + 1) % window == 0]
    beside = {t + side for t in before for side in (0, 1)}
    quality, changes = _psnr(a, b), _psnr(a.diff(dim=1), b.diff(dim=1))
    return Seams(
        _mean(quality, beside),
        _mean(quality, set(range(frames)) - beside),
        _mean(changes, set(before)),
        _mean(changes, set(range(frames - 1)) - set(before)),
    )


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    """PSNR (B, T) of what lies at every time."""
    return (10 * (255.0**2 / (a - b).square().mean((2, 3, 4))).log10()).clamp(max=EQUAL)


def _mean(values: Tensor, times: set[int]) -> float:
    return float(values[:, sorted(times)].mean())
