"""Ways to draw several steps with one network call, as users ask for them: a number, a text or an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.generation.packed import drawing
from arzoo.generation.prompts import takes_text
from arzoo.samplers.speculative.base import Speculation
from arzoo.samplers.speculative.inexact import NEIGHBOURS, Lantern, Relaxed
from arzoo.samplers.speculative.jacobi import Jacobi
from arzoo.samplers.speculative.relaxed import neighbours
from arzoo.tokenizers.quantizers.base import Quantizer

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

Speculate = int | str | Speculation
"""The window of Jacobi iteration, a text such as "jacobi:8", or an object of `arzoo.samplers.speculative`."""


def read(text: str, load: Callable[[str], Generator]) -> Speculation:
    """Read the name of a method and its settings, "NAME:SETTINGS".

    Args:
        text: The text; see `arzoo models --kind speculation`.
        load: Reads the generator that drafts, for methods with one.

    Raises:
        UnknownName: There is no such method.
        ArzooError: The method has no such settings.
    """
    name, _, settings = text.partition(":")
    read_settings = registry.lookup("speculation", name)
    try:
        method: Speculation = read_settings(settings, load)
    except ArzooError as error:
        raise ArzooError(f"speculate {text!r}: {error}") from error
    return method


def speculation(model: Generator, speculate: Speculate, allow_inexact: bool = False) -> Speculation:
    """Return the method that is asked for, if the model can be drawn with it.

    Args:
        model: The generator.
        speculate: The method.
        allow_inexact: Methods that change the law are allowed, as if they were made with `allow_inexact=True`.

    Raises:
        UnknownName: There is no such method.
        ArzooError: It has no such settings, the model cannot be drawn with it, or it changes the law.
    """
    method: Any = speculate
    if isinstance(speculate, str):
        method = read(speculate, lambda name: type(model).load(name).to(model.device))
    elif not isinstance(speculate, Speculation):
        method = Jacobi(speculate)
    if method.drafter is not None:
        _require_alike(model, method.drafter)
    if allow_inexact and isinstance(method, Relaxed):
        method = replace(method, allow_inexact=True)
    if isinstance(method, Lantern) and method.around is None:
        method = replace(method, around=neighbours(_codebook(model), NEIGHBOURS))
    plan = model.plan()
    method.require(model.backbone, plan, model.heads)
    return method


def _codebook(model: Generator) -> Tensor:
    """Vectors (V, C) of the codes of a model's tokenizer.

    Raises:
        ArzooError: It has none, or several codes per position.
    """
    quantizers = [part for part in model.tokenizer.modules() if isinstance(part, Quantizer)]
    if len(quantizers) != 1 or model.spec.codebooks != 1 or quantizers[0].vocab != model.spec.vocab:
        raise ArzooError(
            "lantern counts neighbors in the codebook of the tokenizer, and that of this model has no single one; use "
            "grouped"
        )
    return quantizers[0].lookup(torch.arange(model.spec.vocab, device=model.device))


def packed(method: Speculation) -> Speculation:
    """Return a method whose drafting generator, if there is one, has weights packed for a CPU."""
    drafter: Any = method.drafter
    if drafter is None or drafter.device.type != "cpu":
        return method
    nets = drawing(drafter.backbone), [drawing(head) for head in drafter.heads]
    changed: Speculation = replace(method, drafter=drafter.with_weights(*nets))  # type: ignore[type-var]
    return changed


def _require_alike(model: Generator, drafter: Any) -> None:
    """Check that two generators draw the same tokens of the same conditions.

    Raises:
        ArzooError: They do not.
    """
    if not isinstance(drafter, type(model)):
        raise ArzooError(f"what drafts must be a Generator, got {type(drafter).__name__}")
    facts: dict[str, Callable[[Generator], Any]] = {
        "codes": lambda one: one.spec.vocab,
        "layout": lambda one: one.spec.layout,
        "plan": lambda one: f"{one.plan_name} {one.plan_options or ''}".strip(),
        "tokenizer": lambda one: one.tokenizer_hash[:12],
        "kind of condition": lambda one: "text" if takes_text(one.backbone) else "classes",
        "classes": lambda one: None if takes_text(one.backbone) else one.classes,
        "text encoder": lambda one: one.text and f"{one.text.name} {one.text.sha256[:12]}",
    }
    for name, fact in facts.items():
        own, other = fact(model), fact(drafter)
        if own != other:
            advice = "Train a smaller model with the recipe of the larger one"
            if name == "plan":
                advice += ", or let both follow one plan: in Python with Generator.with_plan, elsewhere without --plan"
            raise ArzooError(
                f"the model that drafts must have the same {name} as the one that draws: {_short(other)} is not "
                f"{_short(own)}. {advice}."
            )


def _short(fact: object) -> str:
    return f"{len(fact)} names" if isinstance(fact, tuple) else str(fact)
