"""Likelihood: the generator's own opinion of what it drew, without a picture."""

from __future__ import annotations

import math

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.control import Control
from arzoo.samplers.loop import Model
from arzoo.samplers.verifiers.base import Candidates, Subject, Verifier

_UNKNOWN = (
    "verifier 'likelihood' needs the probabilities of the tokens, which only heads with one code per position "
    "(categorical) know; use a verifier that looks at pictures"
)


@register("verifier", "likelihood")
class Likelihood(Verifier):
    """Log-probability per token, in nats, by the generator itself.

    Args:
        subject: Not looked at: the tokens were drawn for it.
        published: As in the published code ("(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026), divide the
            log-probability of the tokens since the previous comparison by the number of all tokens. The result cannot
            be compared between the steps of a search; by default all tokens count.
    """

    name, pictures = "likelihood", False
    needs = frozenset({"log_probs"})
    range = (-math.inf, 0.0)

    def __init__(self, subject: Subject | None = None, published: bool = False) -> None:
        self.published = published

    def require(self, model: Model, control: Control | None = None) -> None:
        """Check that the heads of a model know the probabilities of their tokens.

        Raises:
            ArzooError: One does not.
        """
        if not all(head.enumerates for head in model.heads):
            raise ArzooError(_UNKNOWN)

    def score(self, candidates: Candidates) -> Tensor:
        """Return log-probabilities per token (n,).

        Raises:
            ArzooError: A head of the model does not know the probabilities of its tokens.
        """
        if candidates.log_probs is None or candidates.last_log_probs is None:
            raise ArzooError(_UNKNOWN)
        if self.published:
            return candidates.last_log_probs / candidates.count
        return candidates.log_probs / max(candidates.drawn, 1)
