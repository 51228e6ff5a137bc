"""Settings of augmentation in training; the augmentation itself is in `transforms`."""

from __future__ import annotations

from dataclasses import dataclass

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError


@dataclass(frozen=True, kw_only=True)
class Augment(Config):
    """Settings of the augmentation of drawings.

    Attributes:
        shift: Largest displacement, as a share of the side; rounded to whole pixels, so that edges stay sharp.
        scale: Smallest and largest relative size.
        resize: Probability of another size.
        mirror: Probability of a mirror image, for pictures that may be mirrored.
        background: Probability of a background other than white, where the picture has opacity.
    """

    shift: float = 0.06
    scale: tuple[float, float] = (0.85, 1.1)
    resize: float = 0.5
    mirror: float = 0.5
    background: float = 0.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("shift", "resize", "mirror", "background"), (0, 1))
        refuse_outside(self, "augment.", {**shares, "scale": (0.01, 100)})
        if self.scale[0] > self.scale[1]:
            raise ArzooError(f"augment.scale is the smallest and the largest size, got {list(self.scale)}")

    def build(self) -> Augment:
        """Return the settings themselves."""
        return self
