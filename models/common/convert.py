"""Published checkpoints of generators into our parts: `arzoo convert SRC DST`.

A source is one function from a published state dict to a `Conversion`, listed in `SOURCES` under its name. Most of it
is a table {our name: the published tensors it is made of}, which `merge` and `split` read in either direction.
Conversion is strict: a published tensor that no weight is made of is an error, and so is a weight that stays without
one. `weight_file` reads the files.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from arzoo.base.config import checked
from arzoo.base.errors import ArzooError, UnknownName, nearest
from arzoo.base.finite import refuse_not_finite
from arzoo.base.paths import expanded
from arzoo.core.control import Control
from arzoo.models.common.weight_file import WeightFile, Weights, choose, read_content

StateDict = Mapping[str, Tensor]

SOURCES = {name: "arzoo.models.llamagen.convert" for name in ("llamagen", "nar", "par")}
SOURCES |= {"mar": "arzoo.models.mar.convert"}
SOURCES |= {"xar": "arzoo.models.xar.convert", "flowar": "arzoo.models.flowar.convert"}
SOURCES["llamagen_vq"] = "arzoo.tokenizers.vq.convert"
SOURCES["ldm_kl"] = "arzoo.tokenizers.kl.convert"
SOURCES |= {name: f"arzoo.tokenizers.{name}.convert" for name in ("flextok", "karl", "titok")}
"""Module of every source, with functions `from_NAME(state, **arguments) -> Conversion` and `is_NAME(state) -> bool`."""


class Join(NamedTuple):
    """Published tensors, concatenated along an axis, that make up one of our weights."""

    names: tuple[str, ...]
    dim: int = 0


@dataclass(frozen=True)
class Conversion:
    """A published generator in our terms.

    Attributes:
        source: Name of the source.
        parts: Modules with their weights, in evaluation mode: what `arzoo.checkpoints.folder.save_parts` takes.
        plan: Its order as checkpoints record it, {"name": a registered plan, "options": arguments beside the layout}.
        control: The sampling settings published with it.
        taken: Which weights of its file these are, in words.
        remark: Which other weights the file has; empty when there was no choice.
    """

    source: str
    parts: dict[str, nn.Module]
    plan: dict[str, Any] = field(default_factory=dict)
    control: Control = field(default_factory=Control)
    taken: str = ""
    remark: str = ""


def merge(state: StateDict, table: Mapping[str, Join], ignore: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Our state dict out of a published one.

    Args:
        state: Published tensors.
        table: What each of our weights is made of.
        ignore: Published names without meaning.

    Raises:
        ArzooError: A tensor is missing or left over.
    """
    named = {name for join in table.values() for name in join.names}
    missing, unused = sorted(named - state.keys()), sorted(state.keys() - named - set(ignore))
    if missing or unused:
        parts = [
            f"{what}: {_some(names)}" for what, names in (("missing", missing), ("unknown", unused)) if names
        ]
        raise ArzooError(
            f"the weights do not fit the layout of this source ({'; '.join(parts)}). "
            "Name another --layout (in Python: source=), or leave it out to have it recognised."
        )
    return {
        name: state[join.names[0]]
        if len(join.names) == 1
        else torch.cat([state[n] for n in join.names], join.dim)
        for name, join in table.items()
    }


def split(state: StateDict, table: Mapping[str, Join]) -> dict[str, Tensor]:
    """The published state dict (or gradients, keyed alike) out of ours: the inverse of `merge`.

    Args:
        state: Our tensors; names that are not there are left out.
        table: What each of our weights is made of, in equal shares.
    """
    return {
        theirs: value
        for ours, join in table.items()
        if ours in state
        for theirs, value in zip(join.names, state[ours].chunk(len(join.names), join.dim), strict=True)
    }


def fill(parts: dict[str, nn.Module], state: StateDict) -> dict[str, nn.Module]:
    """Load weights named "PART.NAME" into modules, all of them and no others; returns the modules in evaluation mode.

    Raises:
        ArzooError: A weight has another shape than its place, or is no number.
    """
    remedy = "The training that wrote them had failed, or the file is damaged: take an earlier one."
    refuse_not_finite(state, "these weights", remedy)
    for part, module in parts.items():
        prefix = f"{part}."
        mine = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(mine, assign=True)
        except RuntimeError as error:
            raise ArzooError(f"the weights do not fit the sizes read from them: {error}") from error
        # Converted files may be float16 or bfloat16; modules compute in float32 until told otherwise.
        module.float().requires_grad_(True).eval()
    return parts


def convert_state(state: StateDict, source: str | None = None, **arguments: Any) -> Conversion:
    """Convert published weights in memory.

    Args:
        state: Published tensors.
        source: Whose layout it is, one of `SOURCES`; None recognises it by its names.
        **arguments: What shapes do not say, see the function of the source.

    Raises:
        ArzooError: The source is unknown or not recognised, the weights do not fit it, or it has no such argument.
    """
    source = source_of(state, source)
    hints = settings_of(source)
    for name, value in arguments.items():
        if name not in hints:
            raise ArzooError(
                f"source {source!r} does not take these settings: {name}.{nearest(name, hints)} It takes: "
                f"{', '.join(hints)}."
            )
        arguments[name] = value = checked(value, hints[name], name)
        for number in value if isinstance(value, tuple) else (value,):
            plain = isinstance(number, (int, float)) and not isinstance(number, bool)
            if plain and not (math.isfinite(number) and number > 0):
                raise ArzooError(f"{name} of source {source!r} must be positive, got {value}")
    conversion: Conversion = _function(source, "from")(state, **arguments)
    return conversion


def source_of(state: StateDict, source: str | None = None) -> str:
    """The given source if there is such a one; without it, the source recognised by the names of the tensors.

    Raises:
        ArzooError: The source is unknown or not recognised.
    """
    if source is None:
        source = next((name for name in SOURCES if _function(name, "is")(state)), None)
        if source is None:
            raise ArzooError(
                f"whose weights these are is not recognised by their names ({_some(list(state))}). "
                f"Say it with --layout (in Python: source=); there are: {', '.join(SOURCES)}."
            )
    if source not in SOURCES:
        raise UnknownName("source of weights", source, SOURCES)
    return source


def convert_file(
    path: str | Path, source: str | None = None, weights: Weights | None = None, **arguments: Any
) -> Conversion:
    """Convert a published file. Arguments and errors as those of `read_weights` and `convert_state`.

    Example:
        >>> conversion = convert_file("c2i_B_256.pt")  # doctest: +SKIP
        >>> save_parts("llamagen_b", "generator", conversion.parts, plan=conversion.plan)  # doctest: +SKIP
    """
    return convert_opened(*open_file(path, source, weights), **arguments)


def open_file(
    path: str | Path, source: str | None = None, weights: Weights | None = None
) -> tuple[WeightFile, str]:
    """The weights of a published file and the source they come from; arguments and errors as of `convert_file`."""
    path = Path(expanded(path))
    content = read_content(path)
    source = source_of(choose(content, str(path), weights).state, source)
    # Some are published with averaged weights beside the others, which their own evaluation takes.
    ema_first = getattr(import_module(SOURCES[source]), "EMA_FIRST", False)
    return choose(content, str(path), weights, ema_first), source


def convert_opened(file: WeightFile, source: str, **arguments: Any) -> Conversion:
    """Convert what `open_file` read. Arguments and errors as those of `convert_state`."""
    return replace(convert_state(file.state, source, **arguments), taken=file.taken, remark=file.remark)


def settings_of(source: str) -> dict[str, Any]:
    """The settings that a source takes and their types; numbers among them are positive."""
    hints = typing.get_type_hints(_function(source, "from"))
    return {name: hint for name, hint in hints.items() if name not in ("state", "return")}


def _function(source: str, what: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(SOURCES[source]), f"{what}_{source}")
    return function


def _some(names: list[str], count: int = 8) -> str:
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
