"""The flow that draws latents from registers: Euler steps of a rectified flow, with plain or projected guidance.

"FlexTok", 2025, section 3.2; projected guidance is APG, "Eliminating Oversaturation and Artifacts of High Guidance
Scales in Diffusion Models", 2024, section 4.

Shapes: B samples, C channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], tuple[Tensor, Tensor | None]]
"""`velocity(x, t)`: predicted noise minus data given the registers and, under guidance, given none; (B, C, h, w)."""


class ProjectedGuidance:
    """Guidance with momentum and a bounded norm, without the component along the conditional prediction.

    Args:
        momentum: Factor of the running difference; negative values push away from it.
        radius: Largest norm of the difference over (C, h, w).
        parallel: Share of the component along the conditional prediction that is kept.
    """

    def __init__(self, momentum: float = -0.5, radius: float = 2.5, parallel: float = 0.0) -> None:
        self.momentum, self.radius, self.parallel = momentum, radius, parallel
        self._running: Tensor | float = 0.0

    def __call__(self, conditional: Tensor, null: Tensor, scale: float) -> Tensor:
        """Guided prediction (B, C, h, w); call it once per step, in order."""
        self._running = conditional - null + self.momentum * self._running
        norms = self._running.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        difference = self._running * (self.radius / norms).clamp(max=1)
        along = _project(difference, conditional)
        return conditional + (scale - 1) * (difference - along + self.parallel * along)


def _project(x: Tensor, onto: Tensor) -> Tensor:
    """The component of x (B, C, h, w) along another tensor, sample by sample; computed in float64."""
    axes = (1, 2, 3)
    unit = torch.nn.functional.normalize(onto.double(), dim=axes)  # type: ignore[arg-type]
    return ((x.double() * unit).sum(axes, keepdim=True) * unit).to(x.dtype)


def plain_guidance(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance."""
    return null + scale * (conditional - null)


def draw(velocity: Velocity, noise: Tensor, steps: int, scale: float, projected: bool) -> Tensor:
    """Draw latents (B, C, h, w) with a flow.

    Args:
        velocity: The velocity field.
        noise: (B, C, h, w) float32.
        steps: Euler steps, evenly spaced from t = 1.
        scale: Scale of guidance; 1 is off.
        projected: Use projected instead of plain guidance.
    """
    guide = ProjectedGuidance() if projected else plain_guidance
    x = noise.float()
    for step in range(steps, 0, -1):
        conditional, null = velocity(x, step / steps)
        v = conditional.float() if null is None else guide(conditional.float(), null.float(), scale)
        x = x - v / steps
    return x
