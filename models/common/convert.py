"""Published checkpoints of generators into our parts: `arzoo convert SRC DST`.

A source is one function from a published state dict to a `Conversion`, listed in `SOURCES` under its name. Most of it
is a table {our name: the published tensors it is made of}, which `merge` and `split` read in either direction.
Conversion is strict: a published tensor that no weight is made of is an error, and so is a weight that stays without
one. Pickles are read with `weights_only`, so a file cannot run code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import Control

StateDict = Mapping[str, Tensor]

CONTAINERS = ("model", "module", "state_dict")
"""Keys under which training scripts file the weights, in the order in which they are looked for."""

SOURCES = {name: "arzoo.models.llamagen.convert" for name in ("llamagen", "nar", "par")}
SOURCES |= {"mar": "arzoo.models.mar.convert"}
SOURCES |= {"xar": "arzoo.models.xar.convert", "flowar": "arzoo.models.flowar.convert"}
SOURCES["llamagen_vq"] = "arzoo.tokenizers.vq.convert"
SOURCES["ldm_kl"] = "arzoo.tokenizers.kl.convert"
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
    """

    source: str
    parts: dict[str, nn.Module]
    plan: dict[str, Any] = field(default_factory=dict)
    control: Control = field(default_factory=Control)


def merge(state: StateDict, table: Mapping[str, Join], ignore: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Our state dict out of a published one.

    Args:
        state: Published tensors.
        table: What each of our weights is made of.
        ignore: Published names without meaning.

    Raises:
        ArzooError: A tensor is missing or left over.
    """
    wanted = {name for join in table.values() for name in join.names}
    missing, unused = sorted(wanted - state.keys()), sorted(state.keys() - wanted - set(ignore))
    if missing or unused:
        parts = [
            f"{what}: {_some(names)}" for what, names in (("missing", missing), ("unknown", unused)) if names
        ]
        raise ArzooError(
            f"the weights do not fit the layout of this source ({'; '.join(parts)}). "
            "Name another source, or leave it out to have it recognised."
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
        ArzooError: A weight has another shape than its place.
    """
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


def read_state(path: str | Path, containers: tuple[str, ...] = CONTAINERS) -> dict[str, Tensor]:
    """Tensors of a published file (.safetensors, or a pickle read without running code), unwrapped from its container.

    Raises:
        ArzooError: The file is not there, is no such file, needs code to be read, or holds no state dict.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_zipped(path))
    except OSError as error:
        raise ArzooError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArzooError(f"{path} is not a safetensors file ({error}). Download it again.") from error
    except Exception as error:  # the unpickler meets damaged files with errors of every kind
        raise ArzooError(
            f"{path} cannot be read as plain weights ({_reason(error)}). It is damaged, or holds more than tensors; "
            "save its state dict alone with torch.save or safetensors."
        ) from error
    return unwrap(content, str(path), containers)


def _reason(error: Exception) -> str:
    """What is wrong with a pickle, without torch's advice to read it unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if "weights_only" not in line and line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "WeightsUnpickler" in line]
    said = (telling or lines or [type(error).__name__])[-1]
    return said.removeprefix("WeightsUnpickler error:").partition(". Please use")[0].strip()


def unwrap(
    content: Any, name: str = "the file", containers: tuple[str, ...] = CONTAINERS
) -> dict[str, Tensor]:
    """The state dict inside a training checkpoint: under the first of `containers` that it has, or bare.

    Raises:
        ArzooError: There is none.
    """
    if isinstance(content, Mapping):
        inner = next((content[key] for key in containers if isinstance(content.get(key), Mapping)), content)
        if inner and all(isinstance(key, str) and isinstance(v, Tensor) for key, v in inner.items()):
            return dict(inner)
    found = list(content) if isinstance(content, Mapping) else type(content).__name__
    raise ArzooError(
        f"{name} holds no state dict: found {found}; weights are looked for under {', '.join(containers)}, then bare"
    )


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
    try:
        conversion: Conversion = _function(source, "from")(state, **arguments)
    except TypeError as error:
        if not arguments or "argument" not in str(error):
            raise
        raise ArzooError(f"source {source!r} does not take these settings: {error}") from error
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
                f"Say it with source=; there are: {', '.join(SOURCES)}."
            )
    if source not in SOURCES:
        raise UnknownName("source of weights", source, SOURCES)
    return source


def convert_file(path: str | Path, source: str | None = None, **arguments: Any) -> Conversion:
    """Convert a published file. Arguments and errors as those of `read_state` and `convert_state`.

    Example:
        >>> conversion = convert_file("c2i_B_256.pt")  # doctest: +SKIP
        >>> save_parts("llamagen_b", "generator", conversion.parts, plan=conversion.plan)  # doctest: +SKIP
    """
    state = read_state(path)
    source = source_of(state, source)
    # A source may look for its weights elsewhere first: tokenizers are published with averaged ones beside the others.
    containers = getattr(import_module(SOURCES[source]), "CONTAINERS", CONTAINERS)
    if containers != CONTAINERS:
        state = read_state(path, containers)
    return convert_state(state, source, **arguments)


def _function(source: str, what: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(SOURCES[source]), f"{what}_{source}")
    return function


def _zipped(path: Path) -> bool:
    """Memory mapping needs the zip format of torch >= 1.6; older files are read whole."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _some(names: list[str], count: int = 8) -> str:
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
