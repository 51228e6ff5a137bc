"""Weights in published files: training checkpoints, wrapped and compiled models, averaged weights beside raw ones.

Pickles are read with `weights_only`, so a file cannot run code; of other objects only `argparse.Namespace` is allowed,
in which training scripts keep their arguments and which holds nothing but values.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    "shadow",
)
"""Keys under which training scripts file the weights, in the order in which they are looked for."""

_AVERAGED = re.compile(r"(^|_)(ema|averaged?|swa)(_|$)|^shadow(_|$)")
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
"""Modules that others are put into (for several devices, by the compiler): parts of names without meaning."""
_MODELS = {"model", "net", "network", "online_model"}
"""Names of a model inside the module that was saved."""
_COUNTERS = {"n_averaged", "num_updates", "initted", "step", "decay", "ema_decay"}
"""Numbers that averages keep beside the weights."""


@dataclass(frozen=True)
class WeightFile:
    """Weights of a file.

    Attributes:
        state: The tensors by name, without wrappers.
        averaged: Whether they are the averages over a training.
        key: Where they were, such as "model"; empty for a bare table.
        others: Where other weights are that were not taken, and whether those are averages.
    """

    state: dict[str, Tensor]
    averaged: bool
    key: str
    others: tuple[tuple[str, bool], ...] = ()

    @property
    def taken(self) -> str:
        """Which weights these are, in words."""
        what = "averaged (ema) weights" if self.averaged else "weights"
        return f"{what} under {self.key!r}" if self.key else what

    @property
    def remark(self) -> str:
        """What was taken and what was left, where there was a choice; else empty."""
        if not self.others:
            return ""
        left = ", ".join(f"{key!r} ({'averaged, ema' if ema else 'raw'})" for key, ema in self.others)
        return f"the {self.taken} are taken; left out: {left}"


def read_weights(path: str | Path, weights: Weights | None = None, ema_first: bool = False) -> WeightFile:
    """Tensors of a published file: .safetensors, or a pickle read without running code.

    Args:
        path: The file.
        weights: "ema" for averaged weights, "raw" for those that were trained.
        ema_first: Which of them are taken where both are there and nothing is asked for.

    Raises:
        ArzooError: The file is not there, is no such file, needs code to be read, holds no weights, or not those that
            were asked for.
    """
    path = Path(expanded(path))
    return choose(read_content(path), str(path), weights, ema_first)


def read_content(path: Path) -> Any:
    """What a file holds; errors as those of `read_weights`."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_zipped(path))
    except OSError as error:
        raise ArzooError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArzooError(f"{path} is not a safetensors file ({error}). Download it again.") from error
    except Exception as error:  # the unpickler meets damaged files with errors of every kind
        raise ArzooError(
            f"{path} cannot be read as plain weights ({_reason(error)}). It is damaged, or holds more than tensors; "
            "save its state dict alone with torch.save or safetensors."
        ) from error


def choose(
    content: Any, name: str = "the file", weights: Weights | None = None, ema_first: bool = False
) -> WeightFile:
    """The weights in a training checkpoint; arguments and errors as those of `read_weights`."""
    there = list(_tables(content, "", False))
    if not there:
        keys = list(content) if isinstance(content, Mapping) else type(content).__name__
        raise ArzooError(
            f"{name} holds no state dict: it has {keys}; weights are looked for under {', '.join(CONTAINERS)}, ema, "
            "then bare"
        )
    averaged = weights == "ema" or (weights is None and ema_first)
    fitting = [table for table in there if table.averaged == averaged]
    if weights is not None and not fitting:
        what = "averaged (ema)" if averaged else "raw"
        raise ArzooError(f"{name} holds no {what} weights, only {' and '.join(t.taken for t in there)}")
    chosen = (fitting or there)[0]
    others = tuple((table.key, table.averaged) for table in there if table is not chosen)
    return WeightFile(without_wrappers(chosen.state, name), chosen.averaged, chosen.key, others)


def _tables(content: Any, key: str, averaged: bool) -> Iterator[WeightFile]:
    """All tables of weights in a checkpoint, those under the usual keys first."""
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
    """A table in which raw and averaged weights stand side by side, as two; else as it is."""
    averaged |= "n_averaged" in state
    state = {name: value for name, value in state.items() if name not in _COUNTERS or value.dim()}
    first = {name: name.partition(".")[0] for name in state}
    for prefix in sorted({p for name, p in first.items() if _AVERAGED.search(p) and "." in name}):
        inner = {name.partition(".")[2]: v for name, v in state.items() if first[name] == prefix}
        state = {name: v for name, v in state.items() if first[name] != prefix}
        inner = {name: v for name, v in inner.items() if name not in _COUNTERS or v.dim()}
        yield WeightFile(inner, True, f"{key}.{prefix}" if key else prefix)
    if state:
        yield WeightFile(state, averaged, key)


def without_wrappers(state: Mapping[str, Tensor], name: str = "the file") -> dict[str, Tensor]:
    """Tensors by the names they have in the network itself.

    Raises:
        ArzooError: Two tensors would have one name.
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
    """What is wrong with a pickle, without torch's advice to read it unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if "weights_only" not in line and line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "WeightsUnpickler" in line]
    said = (telling or lines or [type(error).__name__])[-1]
    return said.removeprefix("WeightsUnpickler error:").partition(". Please use")[0].strip()


def _zipped(path: Path) -> bool:
    """Memory mapping needs the zip format of torch >= 1.6; older files are read whole."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
