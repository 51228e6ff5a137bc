"""Checkpoints: a folder of JSON and safetensors, verified when it is read, written completely or not at all.

    model_index.json    what it is: kind, parts with hashes, token contract, plan, classes, how it was trained
    PART/config.json    settings of the part
    PART/model.safetensors
    metrics.json        each figure with its protocol, sealed like the index
    README.md           model card, generated

Only safetensors is read, never a pickle. Each part has two hashes: `sha256` of the file detects damage; `weights`, of
the values in any storage type, tells whether two parts are equal. A generator identifies its tokenizer by the latter,
and so does a tokenizer its base, an autoencoder with a checkpoint of its own whose weights it uses unchanged.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.allowance import Allowance, TooLarge
from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.files import SEAL, atomic_folder, damaged, file_sha256, read_json, seal
from arzoo.base.finite import refuse_not_finite
from arzoo.base.memory import is_out_of_memory
from arzoo.base.paths import expanded
from arzoo.base.runtime import commit
from arzoo.base.weights import (
    WEIGHTS,
    Bits,
    from_storage,
    read_weights,
    refuse_misfit,
    storage_bits,
    to_storage,
)
from arzoo.checkpoints.card import title_of, write_card
from arzoo.checkpoints.index import FORMAT, INDEX, KINDS, METRICS, read_index, read_metrics, sealed_metrics
from arzoo.checkpoints.migrations import class_path
from arzoo.checkpoints.names import resolve
from arzoo.checkpoints.runs import Unfinished, explain_replaced, is_state, progress_of, run_of
from arzoo.core.contracts import Tokenizer
from arzoo.version import __version__

BASE = "base."
"""Start of the names of the weights of a tokenizer's base."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose index has been read; weights are read by `load`.

    Attributes:
        folder: Where it is.
        index: Content of `model_index.json`.
    """

    folder: Path
    index: dict[str, Any]

    @property
    def kind(self) -> str:
        """One of `KINDS`: "tokenizer", "generator", "value" or "segmenter"."""
        return str(self.index["kind"])

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Name, class and hashes of every part."""
        return dict(self.index["parts"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures in `metrics.json`, empty without that file; errors as those of `read_metrics`."""
        return read_metrics(self.folder)

    def config(self, part: str) -> Config:
        """Read the settings of a part.

        Raises:
            ArzooError: There is no such part, or its class is unknown.
        """
        if part not in self.parts:
            raise ArzooError(f"{self.folder} has no part {part!r}. It has: {', '.join(self.parts)}.")
        path = self.folder / part / "config.json"
        stored, sha256 = read_json(path), self.parts[part].get("config")
        if sha256 and file_sha256(path) != sha256:
            raise damaged(path, "it is not the file the index names, or was edited")
        if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict):
            raise damaged(path, "it holds no settings")
        return _config_class(class_path(str(stored.get("class")))).from_dict(stored["config"])

    def load(self, part: str) -> nn.Module:
        """Build a part and read its weights, in evaluation mode, in float32 unless the part chooses another type.

        Raises:
            ArzooError: A file is missing, damaged or does not fit its settings.
        """
        path = self.folder / part / WEIGHTS
        with explain_replaced(self.folder):
            config = self.config(part)
            state = read_weights(path, self.parts[part]["sha256"])
        borrowed = self.index.get("base") if part == "tokenizer" else None
        if borrowed:
            from arzoo.checkpoints.lookup import base_of

            base = base_of(self).load("tokenizer").state_dict()
            state |= {BASE + name: value for name, value in base.items()}
        refuse_not_finite(state, f"the weights in {path}", "The training that wrote them had failed.")
        try:
            module = _built(config, state)
            module.load_state_dict(state)
        except ArzooError:
            raise
        except Exception as error:  # torch raises errors of many kinds for impossible sizes
            if is_out_of_memory(error):
                raise
            raise ArzooError(
                f"{path} does not fit the settings beside it: {error}. The folder mixes "
                "files of different models, or was written by another version; write it again."
            ) from error
        if isinstance(module, Tokenizer) and self.kind == "tokenizer":
            self._refuse_other_tokens(module)
        if borrowed and isinstance(module, Tokenizer):
            module.requires_grad_(False)
            module.borrowed = {key: str(borrowed[key]) for key in ("name", "sha256")}
        return module.eval()

    def _refuse_other_tokens(self, tokenizer: Tokenizer) -> None:
        """Check that a tokenizer makes the tokens that the index records, which generators and code caches go by."""
        recorded, real = self.index.get("spec", {}), tokenizer.spec.to_dict()
        levels = getattr(tokenizer.config, "levels", ())
        product = f" ({' x '.join(map(str, levels))} levels)" if isinstance(levels, tuple) else ""
        for name in ("vocab", "codebooks", "channels"):
            if recorded.get(name, real[name]) != real[name]:
                raise ArzooError(
                    f"{self.folder} records tokens of {name} {recorded[name]}, but the settings of its tokenizer make "
                    f"{name} {real[name]}{product if name == 'vocab' else ''}. The folder mixes files of different "
                    "models: convert or save it again."
                )


def save_parts(
    folder: str | Path,
    kind: str,
    parts: Mapping[str, nn.Module],
    *,
    names: Mapping[str, str] | None = None,
    bits: Bits = 32,
    overwrite: bool = False,
    metrics: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    add: Callable[[Path], None] | None = None,
    whole: bool = False,
    **facts: Any,
) -> Checkpoint:
    """Write a checkpoint folder.

    Args:
        folder: Folder of the checkpoint; it appears only when complete.
        kind: One of `KINDS`.
        parts: Modules by name, each with a `config`. Weights whose names start with one of a module's `precise`, if it
            has that, are not stored in 8 bits.
        names: Registry names of those parts that are registered presets.
        bits: Per floating-point weight: 32, 16, or 8 for large tensors and 16 for the others, see `to_storage`.
        overwrite: Replace an existing folder.
        metrics: Figures, each with its protocol.
        record: How the weights were made: command, recipe, seed, data hash, hours.
        add: Called with the folder before its card is written and it appears, to write more into it.
        whole: Store weights that a tokenizer borrows, too; by default the checkpoint names their origin.
        **facts: Further plain data for the index: spec, plan, controls, classes, tokenizer.

    Raises:
        ArzooError: The folder exists, a part has no config, or weights cannot be stored, see `to_storage`.
    """
    if kind not in KINDS:
        raise ArzooError(f"a checkpoint is one of {', '.join(KINDS)}, got {kind!r}")
    index: dict[str, Any] = {"format": FORMAT, "kind": kind, "arzoo": __version__, "commit": commit()}
    index |= {"torch": torch.__version__, "parts": {}, **facts, "training": dict(record or {})}
    with atomic_folder(folder, overwrite) as partial:
        for part, module in parts.items():
            config = getattr(module, "config", None)
            if not isinstance(config, Config):
                raise ArzooError(f"part {part!r} has no config and could not be built again")
            (partial / part).mkdir()
            borrowed = {} if whole else _borrowed(module)
            if borrowed:
                index["base"] = dict(module.borrowed)  # type: ignore[arg-type]
            own = {key: value for key, value in module.state_dict().items() if key not in borrowed}
            weights = to_storage(own, bits, getattr(module, "precise", ()))
            save_file(weights, partial / part / WEIGHTS, metadata={"format": "pt"})
            name = (names or {}).get(part)
            stored = {"name": name, "class": _class_path(type(config)), "config": config.to_dict()}
            _write_json(partial / part / "config.json", stored)
            index["parts"][part] = {
                "name": name,
                "class": type(module).__name__,
                "parameters": sum(p.numel() for p in module.parameters()),
                "config": file_sha256(partial / part / "config.json"),
                "sha256": file_sha256(partial / part / WEIGHTS),
                "weights": weights_sha256(from_storage(weights, part) | borrowed),
                "bits": storage_bits(weights) or bits,
            }
        index = json.loads(json.dumps(index))  # as it will be read
        index[SEAL] = seal(index)
        _write_json(partial / INDEX, index)
        _write_json(partial / METRICS, sealed_metrics(metrics or {}))
        if add is not None:
            add(partial)
        write_card(partial, title_of(Path(folder)))
    return Checkpoint(Path(expanded(folder)), index)


def open_checkpoint(name: str | Path, kind: str | None = None, unfinished: str = "") -> Checkpoint:
    """Read the index of a checkpoint.

    Args:
        name: A bundled name, a folder or `hf-hub:org/name`.
        kind: The one of `KINDS` that is accepted; None means any.
        unfinished: Why the saved state of a training that is not finished is refused; by default it is accepted.

    Raises:
        UsageError: It is of another kind.
        ArzooError: The checkpoint does not exist, is damaged, newer than this library, or refused.

    Warns:
        Unfinished: It is the newest saved state of a training run that is stopped or still running.
    """
    folder = resolve(name)
    index = read_index(folder)
    if is_state(folder) and unfinished:
        run = run_of(folder)
        raise ArzooError(
            f"{run} is not finished ({progress_of(index)}), and {unfinished}. Finish it with the command that began "
            f"it, or keep this state under a name: arzoo checkpoints tag {run} NAME"
        )
    if is_state(folder):
        warnings.warn(
            f"{run_of(folder)} is not finished: its newest saved state is used, {progress_of(index)}",
            Unfinished,
            stacklevel=1,  # one place, so that a command that opens it twice says it once
        )
    if kind is not None and index["kind"] != kind:
        raise UsageError(
            f"{folder} is a {index['kind']}, a {kind} is needed. See what there is with: arzoo models"
        )
    return Checkpoint(folder, index)


def load_parts(name: str | Path, kind: str | None = None) -> tuple[Checkpoint, dict[str, nn.Module]]:
    """Open a checkpoint and load all its parts. Arguments and errors as those of `open_checkpoint`."""
    checkpoint = open_checkpoint(name, kind)
    return checkpoint, {part: checkpoint.load(part) for part in checkpoint.parts}


def _built(config: Config, state: Mapping[str, Tensor]) -> nn.Module:
    """Build a network for weights; sizes that do not fit are refused before much memory is taken for them."""
    try:
        with Allowance(sum(value.numel() for value in state.values())):
            module: nn.Module = config.build()
    except TooLarge:
        with torch.device("meta"):  # imports all of torch's compiler, longer than most networks take to build
            refuse_misfit(config.build(), state)
        return config.build()
    refuse_misfit(module, state)
    return module


def _borrowed(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a tokenizer's base by their names in the tokenizer; none if they are its own."""
    if not isinstance(module, Tokenizer) or not module.borrowed:
        return {}
    base = module.get_submodule(BASE.rstrip(".")).state_dict()
    if weights_sha256(base) != module.borrowed["sha256"]:
        return {}  # they were trained on
    return {BASE + name: value for name, value in base.items()}


def weights_sha256(state: Mapping[str, Tensor] | nn.Module) -> str:
    """Return the sha256 of names, shapes and values, equal for stored weights and the float32 ones read from them."""
    state = state.state_dict() if isinstance(state, nn.Module) else state
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        value = value.float() if value.is_floating_point() else value.long()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _class_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _config_class(path: str) -> type[Config]:
    """Return a config class by its full name: those of arzoo are imported, others must be those of a plug-in."""
    module, package = path.rpartition(".")[0], path.partition(".")[0]
    if package == "arzoo":
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ArzooError(
                f"this arzoo {__version__} has no {path}; was it written by a newer one?"
            ) from error
    config_class = _known_configs().get(path)
    if config_class is None:
        for kind in ("tokenizer", "backbone", "head", "segmenter"):
            registry.names(kind)
        config_class = _known_configs().get(path)
    if config_class is None:
        raise ArzooError(f"the checkpoint needs {path}, which is not here. Install the package {package!r}.")
    return config_class


def _known_configs() -> dict[str, type[Config]]:
    classes, todo = {}, [Config]
    while todo:
        cls = todo.pop()
        classes[_class_path(cls)] = cls
        todo.extend(cls.__subclasses__())
    return classes


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
