"""Weights in published files: training checkpoints, wrapped or compiled models, averaged weights beside raw ones.

Pickles are read with `weights_only`, so a file cannot run code. The only other class that is allowed is
`argparse.Namespace`, in which training scripts keep their arguments and which holds nothing but values.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.paths import expanded

Weights = Literal["ema", "raw"]

CONTAINERS = (
    "model",
    "module",
    "state_dict",
    "model_state_dict",
    "net",
    "network",
    "params",
    "weights",
    "sd",
    "shadow",
)
"""Keys under which training scripts store the weights, in order of preference."""

_AVERAGED = re.compile(r"(^|_)(ema|averaged?|swa)(_|$)|^shadow(_|$)")
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
"""Wrapper modules (for several devices, or of the compiler), whose names are removed."""
_MODELS = {"model", "net", "network", "online_model"}
"""Names of a model inside the module that was saved."""
_COUNTERS = {"n_averaged", "num_updates", "initted", "step", "decay", "ema_decay"}
"""Counters that averaging keeps beside the weights."""


@dataclass(frozen=True)
class WeightFile:
    """Weights of a file.

    Attributes:
        state: The tensors by name, without wrappers.
        averaged: Whether they are averages over the training.
        key: Their key in the file, such as "model"; empty for a bare table.
        others: The keys of the other weights in the file, and whether those are averages.
        arguments: The arguments of the training or of the model, where the file holds them as Lightning's checkpoints
            do, or beside the weights as those of LARP.
        lacks_average: Published files of this kind also hold averaged weights, and this one does not.
    """

    state: dict[str, Tensor]
    averaged: bool
    key: str
    others: tuple[tuple[str, bool], ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lacks_average: bool = False

    @property
    def taken(self) -> str:
        """Description of these weights."""
        what = "averaged (ema) weights" if self.averaged else "weights"
        return f"{what} under {self.key!r}" if self.key else what

    @property
    def remark(self) -> str:
        """Description of the weights taken and left out, or of those that are missing; empty if all is well."""
        if self.lacks_average:
            return (
                f"the {self.taken} are raw, and the file holds no averaged ones (model_ema), with which the published "
                "pictures are drawn: raw weights draw worse"
            )
        if not self.others:
            return ""
        left = ", ".join(f"{key!r} ({'averaged, ema' if ema else 'raw'})" for key, ema in self.others)
        return f"the {self.taken} are taken; left out: {left}; --weights ema or raw chooses"


def read_weights(path: str | Path, weights: Weights | None = None, ema_first: bool = False) -> WeightFile:
    """Read the tensors of a published file: .safetensors, or a pickle, read without running code.

    Args:
        path: The file.
        weights: "ema" for averaged weights, "raw" for the others, None to choose by `ema_first`.
        ema_first: Whether averaged weights are preferred where the file has both.

    Raises:
        ArzooError: The file does not exist, is of another type, needs code to be read, holds no weights, or not the
            requested ones.
    """
    path = Path(expanded(path))
    return choose(read_content(path), str(path), weights, ema_first)


def read_content(path: Path) -> Any:
    """Read the content of a file; errors as those of `read_weights`."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_zipped(path))
    except OSError as error:
        raise ArzooError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArzooError(f"{path} is not a safetensors file ({error}). Download it again.") from error
    except Exception as error:  # the unpickler raises errors of many kinds for damaged files
        raise ArzooError(
            f"{path} cannot be read as plain weights ({_reason(error)}). It is damaged, or holds more than tensors; "
            "save its state dict alone with torch.save or safetensors."
        ) from error


def choose(
    content: Any, name: str = "the file", weights: Weights | None = None, ema_first: bool = False
) -> WeightFile:
    """Choose the weights in a training checkpoint; arguments and errors as those of `read_weights`."""
    tables = list(_tables(content, "", False))
    if not tables:
        keys = list(content) if isinstance(content, Mapping) else type(content).__name__
        raise ArzooError(
            f"{name} holds no state dict: it has {keys}; weights are looked for under {', '.join(CONTAINERS)}, ema, "
            "then bare"
        )
    averaged = weights == "ema" or (weights is None and ema_first)
    fitting = [table for table in tables if table.averaged == averaged]
    if weights is not None and not fitting:
        what = "averaged (ema)" if averaged else "raw"
        raise ArzooError(f"{name} holds no {what} weights, only {' and '.join(t.taken for t in tables)}")
    chosen = (fitting or tables)[0]
    others = tuple((table.key, table.averaged) for table in tables if table is not chosen)
    state = without_wrappers(chosen.state, name)
    return WeightFile(state, chosen.averaged, chosen.key, others, _arguments(content))


def _arguments(content: Any) -> dict[str, Any]:
    """Arguments in a checkpoint of Lightning, whose modules take them one by one or as a namespace, or of LARP."""
    content = content if isinstance(content, Mapping) else {}
    model = content.get("model")
    beside = model.get("args") if isinstance(model, Mapping) and "sd" in model else None
    given = content.get("hyper_parameters") or beside or {}
    arguments = dict(vars(given)) if isinstance(given, argparse.Namespace) else dict(given)
    for value in [value for value in arguments.values() if isinstance(value, argparse.Namespace)]:
        arguments |= vars(value)
    return arguments


def _tables(content: Any, key: str, averaged: bool) -> Iterator[WeightFile]:
    """Yield all tables of weights in a checkpoint, those under the usual keys first."""
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        yield from _by_prefix(dict(content), key, averaged)
        return
    names = [name for name in CONTAINERS if name in content]
    names += [
        name for name in content if isinstance(name, str) and _AVERAGED.search(name) and name not in names
    ]
    for name in names:
        where = f"{key}.{name}" if key else name
        yield from _tables(content[name], where, averaged or bool(_AVERAGED.search(name)))


def _by_prefix(state: dict[str, Tensor], key: str, averaged: bool) -> Iterator[WeightFile]:
    """Split a table that holds raw and averaged weights side by side; yield any other table unchanged."""
    averaged |= "n_averaged" in state
    state = {name: value for name, value in state.items() if name not in _COUNTERS or value.dim()}
    first = {name: name.partition(".")[0] for name in state}
    for prefix in sorted({p for name, p in first.items() if _AVERAGED.search(p) and "." in name}):
        inner = {name.partition(".")[2]: v for name, v in state.items() if first[name] == prefix}
        state = {name: v for name, v in state.items() if first[name] != prefix}
        inner = {name: v for name, v in inner.items() if name not in _COUNTERS or v.dim()}
        yield WeightFile(_with_dots(inner, state), True, f"{key}.{prefix}" if key else prefix)
    if state:
        yield WeightFile(state, averaged, key)


def _with_dots(averages: dict[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give averages the names of the raw weights, where their names are these without dots.

    Latent diffusion's `LitEma` registers them so, because a buffer's name must not have dots.
    """
    if any("." in name for name in averages):
        return averages
    # Raw names may start with that of the module which is averaged.
    names = {
        short.replace(".", ""): short for name in raw for short in (name, name.partition(".")[2]) if short
    }
    return {names.get(name, name): value for name, value in averages.items()}


def without_wrappers(state: Mapping[str, Tensor], name: str = "the file") -> dict[str, Tensor]:
    """Remove the names of wrappers from the names of tensors.

    Raises:
        ArzooError: Two tensors would have the same name.
    """
    bare = {".".join(part for part in key.split(".") if part not in _WRAPPERS): key for key in state}
    if len(bare) < len(state):
        twice = sorted(set(state) - set(bare.values()))[0]
        raise ArzooError(f"{name} has {twice!r} twice: inside a wrapper such as 'module.' and outside of it")
    table = {short: state[key] for short, key in bare.items()}
    heads = {key.partition(".")[0] for key in table}
    while len(heads) == 1 and heads <= _MODELS:
        table = {key.partition(".")[2]: value for key, value in table.items()}
        heads = {key.partition(".")[0] for key in table}
    return table


def _reason(error: Exception) -> str:
    """Return what is wrong with a pickle, without torch's advice to read it unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if "weights_only" not in line and line.strip()]
    specific = [line for line in lines if "Unsupported" in line or "WeightsUnpickler" in line]
    reason = (specific or lines or [type(error).__name__])[-1]
    return reason.removeprefix("WeightsUnpickler error:").partition(". Please use")[0].strip()


def _zipped(path: Path) -> bool:
    """Return whether a file has the zip format of torch >= 1.6, which memory mapping needs."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
