"""Assembly of a generator with fresh weights: a backbone and a head, sized for a tokenizer and a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Backbone, Head, Tokenizer
from arzoo.core.control import Control
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.plan import Plan
from arzoo.core.tokens import TokenSpec
from arzoo.generation.canvas import canvas_spec
from arzoo.generation.prompts import PromptReader
from arzoo.samplers.plans.samples import for_samples

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


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
    if spec.canvas is not None:
        codes["code_channels"] = spec.canvas.channels
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


def create(
    name: str,
    tokenizer: Tokenizer,
    plan: str,
    *,
    classes: Sequence[str],
    tokenizer_name: str,
    tokenizer_hash: str,
    plan_options: dict[str, Any] | None = None,
    head: str = "",
    head_options: dict[str, Any] | None = None,
    control: Control | None = None,
    text: str = "",
    ends: bool | None = None,
    **changes: Any,
) -> Generator:
    """Create a generator with fresh weights for the tokens of a tokenizer.

    Args:
        name: A registered backbone.
        tokenizer: The frozen tokenizer.
        plan: A registered plan.
        classes: Names of the labels.
        tokenizer_name: Name under which checkpoints record it.
        tokenizer_hash: Hash of its weights.
        plan_options: Arguments of the plan except the layout.
        head: A registered head; by default the one the backbone is published with (`build.usual_head`).
        head_options: Settings of the head that differ from the registered ones.
        control: Default knobs.
        text: A text encoder whose features of captions are the condition, instead of a table of classes.
        ends: It draws where a picture ends; by default if the tokenizer itself decides the number of tokens.
        **changes: Settings of the backbone that differ from the registered ones.

    Raises:
        UnknownName: There is no such backbone, head, plan, text encoder or setting.
        ArzooError: The parts do not fit together, or a setting is out of range.
    """
    from arzoo.generation.generator import Generator

    options = plain(plan_options or {}, "plan options")
    spec = canvas_spec(tokenizer.spec, ends)
    order = for_samples(plan, spec.layout, (0,), **options)
    backbone, new_head, reader = networks(
        name, spec, order, classes=len(classes), text=text, changes=changes, head=head,
        head_options=head_options or {},
    )  # fmt: skip
    model = Generator(
        tokenizer, backbone, [new_head], plan, options, classes, control, tokenizer_name, tokenizer_hash, reader,
        ends=ends,
    )  # fmt: skip
    model.plan()  # refuses parts that do not fit
    return model
