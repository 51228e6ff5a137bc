"""Search without a generator: only a tokenizer of ordered tokens and a verifier."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.contracts import Tokenizer
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.ends import first_known
from arzoo.core.tokens import Tokens
from arzoo.generation.canvas import decoded
from arzoo.generation.drawings import Drawings
from arzoo.generation.noise import noise_of
from arzoo.samplers.loop import start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.lengths import fixed
from arzoo.samplers.search.result import Result
from arzoo.samplers.search.uniform import UniformPrior
from arzoo.samplers.verifiers.base import Verifier, as_verifier

TOKENS = 32
"""Tokens that are searched by default, as published."""


def training_free(
    tokenizer: Tokenizer,
    verifier: Verifier | Callable[[Tensor], Tensor],
    algorithm: Search | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    number: int = 0,
) -> Result:
    """Search among the tokens of a tokenizer, all equally likely, for the picture that a verifier likes best.

    "(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026: what a caption says can be drawn by a verifier alone.

    Example:
        >>> verifier = open_verifier("image_text", Subject(prompt="red heart"))  # doctest: +SKIP
        >>> training_free(model.tokenizer, verifier, Beam(5, 40, lengths=fixed(4))).pictures.images  # doctest: +SKIP

    Args:
        tokenizer: One code per position, of which the first ones are a picture.
        verifier: As in `Generator.search`.
        algorithm: By default the published one, a beam of 5 with 1 % of the codes as candidates, token by token for 32
            tokens; with a large vocabulary it decodes very many pictures.
        seed: Seed of the picture.
        budget: What to spend at most; networks and heads cost nothing.
        number: As in `Generator.search`.

    Raises:
        ArzooError: The tokenizer needs all tokens, or has vectors or several codes per position; also as the algorithm.
    """
    spec = tokenizer.spec
    if not spec.prefix_ok:
        raise ArzooError(
            f"the first of the {spec.layout.size} tokens of this tokenizer are no picture, so nothing could steer a "
            "search without a generator; use a tokenizer of ordered tokens (FlexTok, TiTok with any_prefix)"
        )
    model, plan = UniformPrior.of(spec), ordered(spec.layout)
    if algorithm is None:
        algorithm = Beam(5, max(5, spec.vocab // 100), lengths=fixed(min(TOKENS, len(plan))))
    verifier = as_verifier(verifier)
    verifier.require(model)
    device, noise = next(tokenizer.parameters()).device, noise_of(algorithm, number)

    def decode(tokens: Tokens) -> Tensor:
        draws = noise(len(tokens.values))
        return decoded(tokenizer, spec, first_known(tokens), spec.layout, exact=False, draws=draws)

    run = start(model, plan, Cond(1), Control(), spec.empty(1, device), Draws([sample_seed(seed, 0)]))
    result = algorithm(model, run, verifier, decode, budget)
    assert result.pictures is not None
    result.pictures = Drawings.of(result.pictures, first_known(result.tokens).present.sum(1).cpu())
    return result
