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
    heads: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> tuple[Backbone, list[Head], PromptReader | None]:
    """Build a backbone, a head per stage and, for a text-conditional model, the reader of its prompts.

    Args:
        name: A registered backbone.
        spec: The tokenizer's contract.
        plan: The order of generation.
        classes: Number of classes.
        text: A text encoder whose features of captions are the condition, instead of a table of classes.
        changes: Settings of the backbone that differ from the registered ones.
        heads: For each stage the name of a registered head, "" for `usual_head`, and settings that differ from the
            registered ones; `usual_head` of all stages by default.

    Raises:
        UnknownName: There is no such backbone, head or setting.
        ArzooError: A setting is of another type or out of range, or there are not as many heads as stages.
    """
    heads = list(heads) or [("", {})] * plan.stages
    if len(heads) != plan.stages:
        raise ArzooError(
            f"plan {plan.name!r} has {plan.stages} stage{'s' * (plan.stages > 1)}, and the heads are "
            f"{', '.join(each or 'the usual one' for each, _ in heads)}: name one per stage, or none"
        )
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
    built: list[Head] = []
    for stage, (head, options) in enumerate(heads):
        config_of = registry.lookup("head", head or usual_head(name, backbone, spec, stage))()
        sizes = stage_sizes(spec, plan, stage)
        offered = {**sizes, "width": backbone.width, "shift": backbone.config.shift, **options}
        built.append(config_of.fitted(offered, options).build())
    return backbone, built, reader


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


def stage_sizes(spec: TokenSpec, plan: Plan, stage: int) -> dict[str, Any]:
    """Return `canvas_sizes` for the head of a stage: of several stages, each has a level of the pyramid as its grid."""
    level = plan.stage_layout(stage) if plan.stages > 1 else None
    return {**canvas_sizes(spec, plan), **({"grid": level.shape} if isinstance(level, Grid) else {})}


def usual_head(name: str, backbone: Backbone, spec: TokenSpec, stage: int = 0) -> str:
    """Return the head of a stage that a backbone is published with, in the size of it if one is registered.

    Categorical for codes in most families, depth for several codebooks. For vectors, `mar_l` has `diffusion_mlp_l`,
    `xar_tiny` has `backbone_flow`.
    """
    if spec.discrete:
        return backbone.code_head if spec.codebooks == 1 else "depth"
    own = (backbone.vector_head, *backbone.later_vector_heads)
    head = own[min(stage, len(own) - 1)]
    sized = f"{head}_{name.rpartition('_')[2]}"
    return sized if sized in registry.names("head") else head


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
    stage_heads: Sequence[tuple[str, Mapping[str, Any]]] = (),
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
        stage_heads: Head and settings of each stage instead, such as [("diffusion_mlp", {}), ("dit", {})].
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
    if head or head_options:
        if stage_heads:
            raise ArzooError("give head and head_options, or stage_heads with those of every stage")
        stage_heads = [(head, head_options or {})]
    backbone, new_heads, reader = networks(
        name, spec, order, classes=len(classes), text=text, changes=changes, heads=stage_heads
    )
    model = Generator(
        tokenizer, backbone, new_heads, plan, options, classes, control, tokenizer_name, tokenizer_hash, reader,
        ends=ends,
    )  # fmt: skip
    model.plan()  # refuses parts that do not fit
    return model
