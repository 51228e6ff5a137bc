"""The contract of search algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from arzoo.core.control import Control
from arzoo.samplers.loop import Model, Run
from arzoo.samplers.search.budget import Budget, Counts, Work
from arzoo.samplers.search.result import Decode, Job, Result
from arzoo.samplers.verifiers.base import Verifier


class Search:
    """A search algorithm: a frozen dataclass of its settings, registered as a `search_method`.

    Attributes:
        results: The most results that it returns.
        published: Equal scores, the lengths of a run that has begun and the noise of decoders as in the published code
            ("(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026).
        own_noise: In the published code, decoders start every candidate from noise of its own.
        absolute: It compares scores of different comparisons, so it refuses a verifier whose scores only rank the
            candidates of one (`Job.require_absolute`).
    """

    results: int = 1
    published: bool = False
    own_noise: ClassVar[bool] = False
    absolute: ClassVar[bool] = False

    def predict(self, work: Work, first: int = 0) -> Counts:
        """The most that a search without a budget spends; seconds are not predicted.

        Args:
            work: What a sample costs.
            first: The next step of the run.
        """
        raise NotImplementedError

    def require(self, model: Model, control: Control | None = None) -> None:
        """Check that it suits a generator, as `Verifier.require`; for searches with a verifier of their own."""

    def completed(self) -> Search:
        """This search with results that have all tokens, for tokenizers that need them."""
        return self

    def __call__(
        self,
        model: Model,
        run: Run,
        verifier: Verifier | Callable[[Tensor], Tensor],
        decode: Decode | None = None,
        budget: Budget | None = None,
    ) -> Result:
        """Search for one picture.

        Args:
            model: Backbone and heads.
            run: A run of one sample, from `loop.start`; it stays as it is.
            verifier: Scores the candidates.
            decode: Decodes canvases; needed by verifiers that look at pictures.
            budget: What to spend at most.

        Raises:
            ArzooError: As `Job`, and if the budget is too small for one result, the run has no steps to choose between,
                or the verifier returns something else than one number per candidate.
        """
        return self.search(Job(model, run, verifier, decode, budget))

    def search(self, job: Job) -> Result:
        """Search; what `__call__` does with its arguments checked."""
        raise NotImplementedError
