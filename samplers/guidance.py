"""Classifier-free guidance of the predictions of a head.

Guidance acts on every call of `Head.predict`: once on logits, at each solver step on noise or velocity, at each depth
of a head with several codebooks. Mixing features instead would be wrong for non-linear heads.
"""

from __future__ import annotations

from torch import Tensor

from arzoo.core.contracts import Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.state import State


def guided(head: Head, read: Read, settings: Settings, state: State) -> Predict:
    """Wrap the prediction of a head with the guidance of the settings.

    Returns:
        `predict(x, t)`, which takes B rows and computes both branches if guidance acts at time t of the solver.
    """

    def predict(x: Tensor | None = None, t: float | None = None) -> Tensor:
        inside = True
        if settings.interval is not None and t is not None:
            inside = settings.interval[0] <= head.noise_share(t) <= settings.interval[1]
        if state.branches == 1 or settings.guidance == 1 or not inside:
            return head.predict(read.conditional(state.batch), x, t)
        return head.predict_guided(read, settings.guidance, x, t)

    return predict
