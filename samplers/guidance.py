"""Classifier-free guidance, wrapped around a head's prediction.

Guidance acts at every call of `Head.predict`: once on logits, at each solver step on noise or velocity, at each depth
of a head with several codebooks. Mixing features instead would be wrong for heads that are not linear.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.core.contracts import Head, Predict, Read, State
from arzoo.core.control import Settings


def guided(head: Head, read: Read, settings: Settings, state: State) -> Predict:
    """The head's prediction for B rows, guided where the settings ask for it.

    Returns:
        `predict(x, t)`, which takes B rows and computes both branches when guidance acts at time t of the solver.
    """

    def predict(x: Tensor | None = None, t: float | None = None) -> Tensor:
        inside = True
        if settings.interval is not None and t is not None:
            inside = settings.interval[0] <= head.noise_share(t) <= settings.interval[1]
        if state.branches == 1 or settings.guidance == 1 or not inside:
            return head.predict(read.conditional(state.batch), x, t)
        return head.predict_guided(read, settings.guidance, x, t)

    return predict
