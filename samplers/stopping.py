"""Rules by which the samples of a run end before the last position: by a symbol that they draw, or by a count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.ends import end_of
from arzoo.core.plan import Plan
from arzoo.core.tokens import TokenSpec
from arzoo.samplers.loop import Run

Stop = Callable[[Run], Tensor]
"""Says after every step which samples (B,) bool end with the tokens that they have."""


def stop_rule(spec: TokenSpec, tokens: int | Stop | None = None) -> Stop | None:
    """Return the argument `stop` of `loop.generate`; None if every sample goes on to the last position.

    Args:
        spec: Contract of the canvas.
        tokens: Number of tokens after which all samples end, or a rule that ends each of them; those of a model that
            says itself where a picture ends also end there.
    """
    if not spec.ends and tokens is None:
        return None

    def stop(run: Run) -> Tensor:
        drawn = run.tokens.at(run.plan.groups[run.k - 1])
        done = torch.zeros(len(drawn), dtype=torch.bool, device=drawn.device)
        if callable(tokens):
            done = tokens(run)
        elif tokens is not None and run.plan.committed(run.k) >= tokens:
            done = ~done
        return done | (drawn == end_of(spec)).any(1) if spec.ends else done

    return stop


def fills_in_order(plan: Plan) -> bool:
    """Whether a plan fills the positions from the first to the last, so that those filled are always the first ones."""
    return not plan.confident and bool((plan.rank.diff(dim=-1) >= 0).all())


def require_count(tokens: int | Stop, spec: TokenSpec, plan: Plan) -> None:
    """Check that pictures of a model can end after a number of tokens, or by a rule.

    Raises:
        ArzooError: They cannot, or the number is out of range.
    """
    size, shown = spec.layout.size, "a rule" if callable(tokens) else str(tokens)
    if not callable(tokens) and (
        isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= size
    ):
        shown = shown if isinstance(tokens, (int, float, str)) else f"a {type(tokens).__name__}"
        raise ArzooError(f"tokens must be a whole number from 1 to {size}, got {shown}; a canvas is `given`")
    if not spec.prefix_ok:
        raise ArzooError(
            f"tokens={shown}: pictures of this model need all {size} tokens of {spec.layout}; the number can be chosen "
            "with tokenizers of ordered tokens (FlexTok, KARL, One-D-Piece), of which the first ones are a picture"
        )
    if not fills_in_order(plan):
        raise ArzooError(
            f"tokens={shown}: plan {plan.name!r} does not draw the tokens from the first to the last, so the first "
            "ones are complete only at the end. Leave tokens out, or use a model with plan ordered."
        )
