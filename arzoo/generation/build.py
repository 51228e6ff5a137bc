"""Assembly of a generator: a backbone and a head with fresh weights, sized for a tokenizer and a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Backbone, Head
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.plan import Plan
from arzoo.core.tokens import TokenSpec
from arzoo.generation.prompts import PromptReader


def networks(
    name: str,
    spec: TokenSpec,
    plan: Plan,
    *,
    classes: int,
    text: str = "",
    changes: Mapping[str, Any],
    head: str = "",
    head_options: Mapping[str, Any],
) -> tuple[Backbone, Head, PromptReader | None]:
    """Build a backbone, a head and, for a text-conditional model, the reader of its prompts.

    Args:
        name: A registered backbone.
        spec: The tokenizer's contract.
        plan: The order of generation.
        classes: Number of classes.
        text: A text encoder whose features of captions are the condition, instead of a table of classes.
        changes: Settings of the backbone that differ from the registered ones.
        head: A registered head, `usual_head` by default.
        head_options: Settings of the head that differ from the registered ones.

    Raises:
        UnknownName: There is no such backbone, head or setting.
        ArzooError: A setting is of another type or out of range.
    """
    canvas, config = canvas_sizes(spec, plan), registry.lookup("backbone", name)()
    offered: dict[str, Any] = {**canvas, "classes": classes, "extras": plan.extras}
    if config.has("vocab", "channels"):  # it can be built for either kind of token: switch the other one off
        offered |= {"vocab": spec.vocab, "channels": spec.channels}
    if not canvas["levels"]:  # a network that needs levels keeps its own, so that the misfit is reported
        del offered["levels"]
    required, reader = set(changes), PromptReader(text, where=text) if text else None
    if reader:
        offered |= {"classes": 0, "text_width": reader.encoder.width}
        required.add("text_width")
    backbone: Backbone = config.fitted({**offered, **changes}, required).build()
    if reader:
        reader.length = backbone.config.text_length
    head_config = registry.lookup("head", head or usual_head(name, backbone, spec))()
    offered = {**canvas, "width": backbone.width, "shift": backbone.config.shift, **head_options}
    return backbone, head_config.fitted(offered, head_options).build(), reader


def canvas_sizes(spec: TokenSpec, plan: Plan) -> dict[str, Any]:
    """Return the network settings that follow from the tokens and the order of generation, by name.

    Args:
        spec: The tokenizer's contract.
        plan: The order; its layout is that of the tokens, or a pyramid over it.
    """
    levels = tuple(grid.h for grid in plan.layout.levels) if isinstance(plan.layout, Pyramid) else ()
    grid = spec.layout.shape if isinstance(spec.layout, Grid) else (1, 1, spec.layout.size)
    codes, vectors = {"vocab": spec.vocab, "codebooks": spec.codebooks}, {"channels": spec.channels}
    return {"grid": grid, "axes": plan.axes, "levels": levels, **(codes if spec.discrete else vectors)}


def usual_head(name: str, backbone: Backbone, spec: TokenSpec) -> str:
    """Return the head that a backbone is published with, in the size of the backbone if one is registered.

    Categorical for codes in most families, depth for several codebooks. For vectors, `mar_l` has `diffusion_mlp_l`,
    `xar_tiny` has `backbone_flow`.
    """
    if spec.discrete:
        return backbone.code_head if spec.codebooks == 1 else "depth"
    sized = f"{backbone.vector_head}_{name.rpartition('_')[2]}"
    return sized if sized in registry.names("head") else backbone.vector_head


def plain(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return options as a checkpoint stores them and reads them back.

    Raises:
        ArzooError: They hold a value that JSON cannot store.
    """
    try:
        stored: dict[str, Any] = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArzooError(
            f"{what} must be numbers, texts and lists, which a checkpoint can store: {error}"
        ) from error
    return stored
