"""Lookahead: beam search whose candidates are scored by what would become of them."""

from __future__ import annotations

from dataclasses import dataclass

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.samplers.search.beam import Beam


@register("search_method", "lookahead")
@dataclass(frozen=True)
class Lookahead(Beam):
    """Draw every candidate on greedily before it is scored; the beam goes on without what was drawn ahead.

    Needed where the first tokens alone are no picture, as on a grid. A result that ends before the last step has the
    tokens that were scored, with those drawn ahead. Drawing ahead costs a step of every candidate, and memory for as
    many caches.

    Attributes:
        ahead: Steps drawn ahead; -1 draws to the end.
        comparisons: The first so many comparisons look ahead; None means all.

    Raises:
        ArzooError: As `Beam`, and if `ahead` is neither -1 nor at least 1.
    """

    ahead: int = 8
    comparisons: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if whole_number(self.ahead, "ahead", least=-1) == 0:
            raise ArzooError("ahead=0 looks at nothing ahead: use Beam, a number of steps, or -1 for all")
        if self.comparisons is not None:
            whole_number(self.comparisons, "comparisons that look ahead", least=0)

    def reach(self, comparison: int, length: int, steps: int) -> int:
        """Steps that candidates have when they are scored."""
        if self.comparisons is not None and comparison >= self.comparisons:
            return length
        return steps if self.ahead < 0 else min(length + self.ahead, steps)
