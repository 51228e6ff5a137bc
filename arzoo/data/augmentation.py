"""Settings of augmentation in training; the augmentation itself is in `transforms`."""

from __future__ import annotations

from dataclasses import dataclass

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError


@dataclass(frozen=True, kw_only=True)
class Augment(Config):
    """Settings of the augmentation of pictures.

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

    def __str__(self) -> str:
        """Say what happens to a picture in training."""
        low, high = (round(100 * size) for size in self.scale)
        changes = {
            f"moved by up to {100 * self.shift:g} %": self.shift > 0,
            f"{100 * self.resize:g} % resized to {low} to {high} %": self.resize > 0 and self.scale != (1, 1),
            f"{100 * self.mirror:g} % mirrored": self.mirror > 0,
            f"{100 * self.background:g} % of those with opacity on a color": self.background > 0,
        }
        return ", ".join(change for change, happens in changes.items() if happens) or "none"

    def build(self) -> Augment:
        """Return the settings themselves."""
        return self
