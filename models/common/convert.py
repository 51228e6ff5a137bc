"""Conversion of published checkpoints to parts of arzoo: `arzoo convert SRC DST`.

A source is one function from a published state dict to a `Conversion`, listed in `SOURCES` under its name. Most of it
is a table {our name: the published tensors of this weight}, which `merge` and `split` read in either direction.
Conversion is strict: an unused published tensor is an error, and so is a weight without published tensors.
`weight_file` reads the files.
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
from arzoo.base.errors import ArzooError, UnknownName, UsageError, nearest, some
from arzoo.base.finite import refuse_not_finite
from arzoo.base.paths import expanded
from arzoo.core.control import Control
from arzoo.models.common.weight_file import WeightFile, Weights, choose, read_content

StateDict = Mapping[str, Tensor]

SOURCES = {name: "arzoo.models.llamagen.convert" for name in ("llamagen", "nar", "par")}
SOURCES["nar_video"] = "arzoo.models.nar.convert"
SOURCES |= {"mar": "arzoo.models.mar.convert", "himar": "arzoo.models.himar.convert"}
SOURCES |= {"xar": "arzoo.models.xar.convert", "flowar": "arzoo.models.flowar.convert"}
SOURCES |= {name: "arzoo.models.mamba.convert" for name in ("aim", "mamba")}  # maskgit has some names of AiM
SOURCES |= {name: f"arzoo.models.{name}.convert" for name in ("rar", "maskgit", "nbp")}
SOURCES["llamagen_vq"] = "arzoo.tokenizers.vq.convert"
SOURCES["ldm_kl"] = "arzoo.tokenizers.kl.convert"
SOURCES |= {"var": "arzoo.models.var.convert", "msvq": "arzoo.tokenizers.msvq.convert"}
SOURCES["nbp_tokenizer"] = "arzoo.tokenizers.nbp.convert"
SOURCES |= {
    name: f"arzoo.tokenizers.{name}.convert" for name in ("flextok", "karl", "larp", "omnitok", "titok")
}
SOURCES["longcat"] = "arzoo.tokenizers.longcat.convert"
SOURCES["tokenunify"] = "arzoo.models.tokenunify.convert"
"""Module of each source, with functions `from_NAME(state, **arguments) -> Conversion` and `is_NAME(state) -> bool`.

A module may have `settings_of_file(arguments)`, which reads settings from the arguments of the published training.
"""


class Join(NamedTuple):
    """Published tensors that are concatenated along an axis to one of our weights."""

    names: tuple[str, ...]
    dim: int = 0


@dataclass(frozen=True)
class Conversion:
    """A published model as parts of arzoo.

    Attributes:
        source: Name of the source.
        parts: Modules with their weights, in evaluation mode: what `arzoo.checkpoints.folder.save_parts` takes.
        plan: Its plan as checkpoints record it, {"name": a registered plan, "options": arguments except the layout}.
        control: The sampling settings published with it.
        text: Name of the text encoder that its prompts are read by; empty if it reads none, or any fits.
        taken: Description of the weights that were taken from the file.
        remark: Description of the other weights in the file; empty if there are none.
    """

    source: str
    parts: dict[str, nn.Module]
    plan: dict[str, Any] = field(default_factory=dict)
    control: Control = field(default_factory=Control)
    text: str = ""
    taken: str = ""
    remark: str = ""


def merge(state: StateDict, table: Mapping[str, Join], ignore: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Convert a published state dict to ours.

    Args:
        state: Published tensors.
        table: The published tensors of each of our weights.
        ignore: Published names to skip.

    Raises:
        ArzooError: A tensor is missing or left over.
    """
    named = {name for join in table.values() for name in join.names}
    missing, unused = sorted(named - state.keys()), sorted(state.keys() - named - set(ignore))
    if missing or unused:
        parts = [
            f"{what}: {some(names)}" for what, names in (("missing", missing), ("unknown", unused)) if names
        ]
        raise ArzooError(
            f"the weights do not fit the layout of this source ({'; '.join(parts)}). "
            "Name another --layout (in Python: source=), or leave it out to have it recognized."
        )
    return {
        name: state[join.names[0]]
        if len(join.names) == 1
        else torch.cat([state[n] for n in join.names], join.dim)
        for name, join in table.items()
    }


def split(state: StateDict, table: Mapping[str, Join]) -> dict[str, Tensor]:
    """Convert our state dict (or gradients by the same names) to the published one: the inverse of `merge`.

    Args:
        state: Our tensors; names that it lacks are left out.
        table: The published tensors of each of our weights, of equal size.
    """
    return {
        theirs: value
        for ours, join in table.items()
        if ours in state
        for theirs, value in zip(join.names, state[ours].chunk(len(join.names), join.dim), strict=True)
    }


def fill(parts: dict[str, nn.Module], state: StateDict) -> dict[str, nn.Module]:
    """Load weights named "PART.NAME" into modules, all of them and no others; return the modules in evaluation mode.

    Raises:
        ArzooError: A weight has the wrong shape, or a value that is not finite.
    """
    remedy = "The training that wrote them had failed, or the file is damaged: take an earlier one."
    refuse_not_finite(state, "these weights", remedy)
    for part, module in parts.items():
        prefix = f"{part}."
        weights = {
            name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
        }
        try:
            module.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ArzooError(f"the weights do not fit the sizes read from them: {error}") from error
        # Published files may be float16 or bfloat16; modules compute in float32 by default.
        module.float().requires_grad_(True).eval()
    return parts


def convert_state(state: StateDict, source: str | None = None, **arguments: Any) -> Conversion:
    """Convert published weights in memory.

    Args:
        state: Published tensors.
        source: The source of the layout, one of `SOURCES`; None recognizes it by the names of the tensors.
        **arguments: Settings that shapes do not determine, see the function of the source.

    Raises:
        ArzooError: The source is unknown or not recognized, the weights do not fit it, or it takes no such argument.
    """
    source = source_of(state, source)
    hints = settings_of(source)
    for name, value in arguments.items():
        if name not in hints:
            raise UsageError(
                f"source {source!r} does not take these settings: {name}.{nearest(name, hints)} It takes: "
                f"{', '.join(hints)}."
            )
        arguments[name] = value = checked(value, hints[name], name)
        for number in value if isinstance(value, tuple) else (value,):
            plain = isinstance(number, (int, float)) and not isinstance(number, bool)
            if plain and not (math.isfinite(number) and number > 0):
                raise UsageError(f"{name} of source {source!r} must be positive, got {value}")
    conversion: Conversion = _function(source, "from")(state, **arguments)
    return conversion


def source_of(state: StateDict, source: str | None = None) -> str:
    """Check the name of a source, or without one recognize the source by the names of the tensors.

    Raises:
        ArzooError: The source is unknown or not recognized.
    """
    if source is None:
        source = next((name for name in SOURCES if _function(name, "is")(state)), None)
        if source is None:
            raise ArzooError(
                f"whose weights these are is not recognized by their names ({some(list(state))}). "
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
    """Read the weights of a published file and recognize their source; arguments and errors as of `convert_file`."""
    path = Path(expanded(path))
    content = read_content(path)
    source = source_of(choose(content, str(path), weights).state, source)
    # Some files have averaged weights beside the raw ones, and the published evaluation uses the averaged ones.
    module = import_module(SOURCES[source])
    file = choose(content, str(path), weights, getattr(module, "EMA_FIRST", False))
    lacks = (
        weights is None and bool(file.key) and not file.averaged and getattr(module, "EMA_PUBLISHED", False)
    )
    return replace(file, lacks_average=lacks), source


def convert_opened(file: WeightFile, source: str, **arguments: Any) -> Conversion:
    """Convert the file that `open_file` read. Arguments and errors as those of `convert_state`.

    Settings that the file itself holds are those of the source where no argument says otherwise.
    """
    settings_of_file = getattr(import_module(SOURCES[source]), "settings_of_file", None)
    if settings_of_file is not None:
        arguments = {**settings_of_file(file.arguments), **arguments}
    conversion = convert_state(file.state, source, **arguments)
    return replace(conversion, taken=file.taken, remark=file.remark or conversion.remark)


def settings_of(source: str) -> dict[str, Any]:
    """Return the settings that a source takes, with their types; numbers must be positive."""
    hints = typing.get_type_hints(_function(source, "from"))
    return {name: hint for name, hint in hints.items() if name not in ("state", "return")}


def _function(source: str, what: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(SOURCES[source]), f"{what}_{source}")
    return function
