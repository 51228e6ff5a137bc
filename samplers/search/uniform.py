"""Uniform prior: a stand-in for a model, under which all codes are equally likely at every position.

Search over it needs no training: only a tokenizer, any prefix of whose tokens is a picture, and a verifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.canvas import BackboneConfig, CanvasConfig
from arzoo.core.contracts import Backbone, Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.samplers.filters import log_probabilities, probabilities


class UniformBackbone(Backbone):
    """Reads nothing; its only feature is 0."""

    config = BackboneConfig()
    readouts = frozenset({"shifted", "inplace"})
    width = 1

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Return features of the positions to draw."""
        positions = state.plan.drawn(step)
        shape = state.rows, positions.shape[1], 1, 1
        return Read(positions, torch.zeros(shape, device=tokens.values.device))


class UniformHead(Head):
    """Equal logits of all codes.

    Args:
        vocab: Number of codes.
    """

    config = CanvasConfig()
    enumerates = True

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.vocab = vocab

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Return logits (R, m, V) of 0."""
        assert read.features is not None
        return read.features.new_zeros(*read.features.shape[:2], self.vocab)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor:
        """Draw codes (B, m); greedy settings take the first code."""
        logits = predict()
        return logits.argmax(-1) if settings.greedy else draws.categorical(probabilities(logits, settings))

    def log_probs(self, predict: Predict, settings: Settings) -> Tensor:
        """Return the log-probabilities (B, m, V)."""
        return log_probabilities(predict(), settings)


@dataclass(frozen=True)
class UniformPrior:
    """Backbone and heads of a uniform prior, for `loop.start` and every search.

    Attributes:
        backbone: Reads nothing.
        heads: One per stage.
    """

    backbone: Backbone
    heads: Sequence[Head]

    @staticmethod
    def of(spec: TokenSpec, stages: int = 1) -> UniformPrior:
        """Return a uniform prior over the codes of a tokenizer.

        Raises:
            ArzooError: The tokens are not one code per position.
        """
        if not spec.discrete or spec.codebooks != 1:
            kind = f"{spec.codebooks} codes" if spec.discrete else "a vector"
            raise ArzooError(
                f"a uniform prior needs one code per position, and a position of this tokenizer has {kind}; use a "
                "tokenizer with vocab above 0 and one codebook, or search with a trained generator"
            )
        return UniformPrior(UniformBackbone(), [UniformHead(spec.vocab)] * stages)
