"""Ways to draw several steps with one network call, as users ask for them: a number, a text or an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.generation.packed import drawing
from arzoo.generation.prompts import takes_text
from arzoo.samplers.speculative.base import Speculation
from arzoo.samplers.speculative.jacobi import Jacobi

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


def speculation(model: Generator, speculate: Speculate) -> Speculation:
    """Return the method that is asked for, if the model can be drawn with it.

    Raises:
        UnknownName: There is no such method.
        ArzooError: It has no such settings, or the model cannot be drawn with it.
    """
    method: Any = speculate
    if isinstance(speculate, str):
        method = read(speculate, lambda name: type(model).load(name).to(model.device))
    elif not isinstance(speculate, Speculation):
        method = Jacobi(speculate)
    if method.drafter is not None:
        _require_alike(model, method.drafter)
    plan = model.plan()
    method.require(model.backbone, plan, model.heads)
    return method


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
            raise ArzooError(
                f"the model that drafts must have the same {name} as the one that draws: {_short(other)} is not "
                f"{_short(own)}. Train a smaller model with the recipe of the larger one."
            )


def _short(fact: object) -> str:
    return f"{len(fact)} names" if isinstance(fact, tuple) else str(fact)
