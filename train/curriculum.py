"""Weights of the three losses of a mixture, and their curriculum ("TokenUnify", 2025, in the words of its text).

The published code trains one loss after another, without a curriculum. The text weighs them: the loss of a phase has
about 0.73, the others 0.18 and 0.09; random tokens lead before 30 % of the steps, next tokens until 70 %, and all later
tokens after that. It names a softmax with a temperature for the transitions. Decisions of ours: of the other two losses
that of the phase to come has 0.18, in the last phase that of the phase before. And a moment belongs to each phase by
the softmax of its distance to it, so that the weights change within a few percent of the steps around a border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError

TERMS = ("random", "next", "next_all")
"""Losses of a mixture, in the order of their phases."""
_BORDERS = (0.0, 0.3, 0.7, 1.0)
_PHASES = ((0.73, 0.18, 0.09), (0.09, 0.73, 0.18), (0.09, 0.18, 0.73))
"""Weights of the losses inside each phase."""
TEMPERATURE = 0.02
"""Share of the steps over which a phase gives way to another."""


def curriculum(progress: float, temperature: float = TEMPERATURE) -> tuple[float, ...]:
    """Compute the weights of the losses, in the order of `TERMS`; their sum is 1.

    Args:
        progress: Share of the steps that are done, in [0, 1].
        temperature: Of the softmax over the phases' distances, above 0.
    """
    distances = [max(low - progress, progress - high, 0.0) for low, high in pairwise(_BORDERS)]
    exponents = [math.exp(-distance / temperature) for distance in distances]
    belongs = [exponent / sum(exponents) for exponent in exponents]
    return tuple(
        sum(share * weights[i] for share, weights in zip(belongs, _PHASES, strict=True))
        for i in range(len(TERMS))
    )


@dataclass(frozen=True, kw_only=True)
class Mixture(Config):
    """Losses that a causal generator is trained with; by default that of the next token alone.

    Attributes:
        random: Weight of the loss of hidden tokens, given the earlier tokens that are not hidden.
        next: Weight of the loss of the next token.
        next_all: Weight of the loss of tokens further on, given the same features as for the next one.
        curriculum: The weights follow the course of the training, see `curriculum`, in place of the ones above.
    """

    random: float = 0.0
    next: float = 1.0
    next_all: float = 0.0
    curriculum: bool = False

    def __post_init__(self) -> None:
        refuse_outside(self, "generator.mixture.", dict.fromkeys(TERMS, (0, math.inf)))
        given = ", ".join(f"{term}={getattr(self, term):g}" for term in TERMS)
        if self.curriculum and (self.random, self.next, self.next_all) != (0.0, 1.0, 0.0):
            raise ArzooError(
                f"generator.mixture.curriculum sets the weights of the losses itself, and the recipe has {given}: "
                "leave the weights out, or set curriculum to false"
            )
        if not self.random + self.next:
            raise ArzooError(
                f"generator.mixture has {given}: then nothing trains the head on the features from which tokens are "
                "drawn. Give next a weight, or random"
            )

    @property
    def terms(self) -> tuple[str, ...]:
        """Losses that have a weight."""
        return TERMS if self.curriculum else tuple(term for term in TERMS if getattr(self, term))

    @property
    def mixes(self) -> bool:
        """Whether it is anything but the loss of the next token."""
        return self != Mixture()

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weights of the losses that have one, when a share of the steps, in [0, 1], is done."""
        values = curriculum(progress) if self.curriculum else [getattr(self, term) for term in TERMS]
        return {term: value for term, value in zip(TERMS, values, strict=True) if term in self.terms}

    def build(self) -> Mixture:
        """Return the settings themselves."""
        return self
