"""Speculative Jacobi decoding that keeps more drafts, for another law: refused unless the user allows it.

The rules are those of `relaxed`. A draft that was kept stays as it is: drawing it again among the codes that were
counted with it would restore the law of the token, but not that of the drafts after it, which saw it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called, register
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.plan import Plan
from arzoo.samplers.loop import Proposal
from arzoo.samplers.speculative.base import Load, count_of
from arzoo.samplers.speculative.chain import Verdict
from arzoo.samplers.speculative.relaxed import alike, judged, near
from arzoo.samplers.speculative.sjd import SpeculativeJacobi

NEIGHBOURS = 1000
"""Neighbours of a code that may lend it probability, as published."""


@dataclass(frozen=True)
class Relaxed(SpeculativeJacobi, ABC):
    """Base of the methods, with the settings of `SpeculativeJacobi`.

    Attributes:
        allow_inexact: The user knows that pictures have another law than that of the model.
    """

    allow_inexact: bool = False

    exact = False

    def require(self, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
        """Check that the user allows another law, and that a model can be drawn in this way.

        Raises:
            ArzooError: One of them is not so.
        """
        if not self.allow_inexact:
            raise ArzooError(
                f"{called(self)} keeps drafts that the model would not: pictures have another law than the "
                "model's, and no setting says by how much. Allow it with --allow-inexact (in Python: "
                "allow_inexact=True), or draw with jacobi, sjd or coupled, which are exact"
            )
        super().require(backbone, plan, heads)

    @abstractmethod
    def verdict(self, proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
        """Judge the drafts of a step, see `SpeculativeJacobi.verdict`."""


@dataclass(frozen=True)
class Lantern(Relaxed):
    """Count a code together with its neighbors in the codebook ("LANTERN", 2024).

    Attributes:
        delta: Probability that neighbors may lend, or, above 1, 1 plus that in units of the code's own.
        around: (V, n) neighbors of each code, see `relaxed.neighbours`; a `Generator` takes those of its tokenizer.

    Raises:
        ArzooError: Delta is negative.
    """

    delta: float = 0.1
    around: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.delta >= 0:
            raise ArzooError(f"delta must be 0 or more, got {self.delta!r}; 0 is exact")

    def verdict(self, proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
        """Judge the drafts of a step with `relaxed.near`."""
        if self.around is None:
            raise ArzooError("Lantern needs the neighbors of every code: around=neighbours(codebook, 1000)")
        return near(p, q, codes, self.around.to(codes.device), self.delta)


@dataclass(frozen=True)
class Grouped(Relaxed):
    """Count a code together with those of about the same probability ("Grouped Speculative Decoding", 2025).

    Attributes:
        size: Codes on each side of the draft in the order of their probability.
        tolerance: Their probability differs by less than this.
    """

    size: int = 7
    tolerance: float = 0.15

    def verdict(self, proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
        """Judge the drafts of a step with `relaxed.alike`."""
        return alike(p, q, codes, self.size, self.tolerance)


Judge = Callable[[Read, Tensor], Tensor]
"""`judge(read, codes (B, m, 1)) -> (B, m, 1)`: how probable it is that drafts are valid, from what the network says."""


@dataclass(frozen=True)
class Judged(Relaxed):
    """Keep also what a judge calls valid ("Judge Decoding", 2025), in Python only.

    Attributes:
        judge: The judge, for example a small network on `Read.features`; by default nothing is valid but what is exact.
    """

    judge: Judge = lambda read, codes: torch.zeros(codes.shape, device=codes.device)

    def verdict(self, proposal: Proposal, p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
        """Judge the drafts of a step with `relaxed.judged`."""
        return judged(p, q, codes, self.judge(proposal.read, codes))


@register("speculation", "lantern")
def read_lantern(settings: str, load: Load) -> Lantern:
    """lantern:WINDOW:DELTA, another law: sjd that counts codes together with their neighbors in the codebook."""
    steps, _, delta = settings.partition(":")
    window = count_of(steps, "lantern:16:0.1")
    try:
        limit = float(delta)
    except ValueError:
        raise ArzooError(f"{delta!r} must be the number delta, as in lantern:16:0.1") from None
    return Lantern(window, delta=limit)


@register("speculation", "grouped")
def read_grouped(settings: str, load: Load) -> Grouped:
    """grouped:WINDOW, another law: sjd that counts codes of about the same probability together."""
    return Grouped(count_of(settings, "grouped:16"))
