"""Checkpoints: a folder of JSON and safetensors, verified when it is read and written whole or not at all.

    model_index.json    what it is: kind, parts with hashes, token contract, plan, classes, how it was trained
    PART/config.json    settings of the part
    PART/model.safetensors
    metrics.json        every figure with its protocol, sealed like the index
    README.md           model card, generated

Only safetensors is read, never a pickle. Two hashes a part: `sha256` of the file finds damage; `weights` of the values,
whatever their storage type, says whether two parts are the same. A generator names its tokenizer by the latter.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, atomic_folder, damaged, file_sha256, read_json, seal
from arzoo.base.finite import refuse_no_numbers
from arzoo.base.memory import is_out_of_memory
from arzoo.base.paths import expanded
from arzoo.base.runtime import commit, store_folder
from arzoo.checkpoints.card import write_card
from arzoo.checkpoints.index import FORMAT, INDEX, KINDS, METRICS, read_index, read_metrics, sealed_metrics
from arzoo.checkpoints.migrations import class_path
from arzoo.checkpoints.names import BUNDLED, is_name, resolve
from arzoo.checkpoints.store import with_weights
from arzoo.checkpoints.weights import (
    WEIGHTS,
    Bits,
    from_storage,
    read_weights,
    refuse_misfit,
    storage_bits,
    to_storage,
)
from arzoo.version import __version__


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
        """Either "tokenizer" or "generator"."""
        return str(self.index["kind"])

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Name, class and hashes of every part."""
        return dict(self.index["parts"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures in `metrics.json`, empty without one; errors as those of `read_metrics`."""
        return read_metrics(self.folder)

    def config(self, part: str) -> Config:
        """Settings of a part.

        Raises:
            ArzooError: There is no such part, or its class is unknown here.
        """
        if part not in self.parts:
            raise ArzooError(f"{self.folder} has no part {part!r}. It has: {', '.join(self.parts)}.")
        path = self.folder / part / "config.json"
        stored, wanted = read_json(path), self.parts[part].get("config")
        if wanted and file_sha256(path) != wanted:
            raise damaged(path, "it is not the file the index names, or was edited")
        if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict):
            raise damaged(path, "it holds no settings")
        return _config_class(class_path(str(stored.get("class")))).from_dict(stored["config"])

    def load(self, part: str) -> nn.Module:
        """Build a part and read its weights, in evaluation mode and float32 unless the part itself says otherwise.

        Raises:
            ArzooError: A file is missing, damaged or does not fit its settings.
        """
        config = self.config(part)
        path = self.folder / part / WEIGHTS
        state = read_weights(path, self.parts[part]["sha256"])
        refuse_no_numbers(state, f"the weights in {path}", "The training that wrote them had failed.")
        try:
            with torch.device("meta"):  # sizes are compared before memory is taken for them
                refuse_misfit(config.build(), state)
            module: nn.Module = config.build()
            module.load_state_dict(state)
        except ArzooError:
            raise
        except Exception as error:  # what sizes that no network has make of torch
            if is_out_of_memory(error):
                raise
            raise ArzooError(
                f"{path} does not fit {type(config).__name__}: {error}. The folder mixes "
                "files of different models, or was written by another version; write it again."
            ) from error
        return module.eval()


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
    **facts: Any,
) -> Checkpoint:
    """Write a checkpoint folder.

    Args:
        folder: Where to; appears only when complete.
        kind: "tokenizer" or "generator".
        parts: Modules by name, each with a `config`; a module's `precise`, if it has that, are the starts of names of
            weights that are not stored in 8 bits.
        names: Registry names of parts that are a registered preset.
        bits: Of a stored floating-point weight: 32, 16, or 8 for the large ones and 16 for the rest, see `to_storage`.
        overwrite: Replace an existing folder.
        metrics: Figures, each with its protocol.
        record: How the weights were made: command, recipe, seed, data hash, hours.
        add: Called with the folder before it appears, to write more into it.
        **facts: Further plain data of the index: spec, plan, controls, classes, tokenizer.

    Raises:
        ArzooError: The folder exists, a part has no config, or weights cannot be stored, see `to_storage`.
    """
    if kind not in KINDS:
        raise ArzooError(f"a checkpoint is a 'tokenizer' or a 'generator', got {kind!r}")
    index: dict[str, Any] = {"format": FORMAT, "kind": kind, "arzoo": __version__, "commit": commit()}
    index |= {"torch": torch.__version__, "parts": {}, **facts, "training": dict(record or {})}
    with atomic_folder(folder, overwrite) as partial:
        for part, module in parts.items():
            config = getattr(module, "config", None)
            if not isinstance(config, Config):
                raise ArzooError(
                    f"part {part!r} ({type(module).__name__}) has no config and could not be built again"
                )
            (partial / part).mkdir()
            weights = to_storage(module.state_dict(), bits, getattr(module, "precise", ()))
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
                "weights": weights_sha256(from_storage(weights, part)),
                "bits": storage_bits(weights) or bits,
            }
        index = json.loads(json.dumps(index))  # as it will be read
        index[SEAL] = seal(index)
        _write_json(partial / INDEX, index)
        _write_json(partial / METRICS, sealed_metrics(metrics or {}))
        write_card(partial, Path(folder).name)
        if add is not None:
            add(partial)
    return Checkpoint(Path(expanded(folder)), index)


def open_checkpoint(name: str | Path, kind: str | None = None) -> Checkpoint:
    """Read the index of a checkpoint.

    Args:
        name: A bundled name, a folder or `hf-hub:org/name`.
        kind: "tokenizer" or "generator" if only that will do.

    Raises:
        ArzooError: It does not exist, is damaged, is newer than this library, or of another kind.
    """
    folder = resolve(name)
    index = read_index(folder)
    if kind is not None and index["kind"] != kind:
        raise ArzooError(
            f"{folder} is a {index['kind']}, a {kind} is needed. See what there is with: arzoo models"
        )
    return Checkpoint(folder, index)


def load_parts(name: str | Path, kind: str | None = None) -> tuple[Checkpoint, dict[str, nn.Module]]:
    """Open a checkpoint and load all its parts. Arguments and errors as those of `open_checkpoint`."""
    checkpoint = open_checkpoint(name, kind)
    return checkpoint, {part: checkpoint.load(part) for part in checkpoint.parts}


def tokenizer_of(generator: Checkpoint, override: str | Path | None = None) -> Checkpoint:
    """The tokenizer checkpoint a generator belongs to.

    Args:
        generator: Its checkpoint.
        override: Where to take the tokenizer from. By default a folder of the recorded name inside or beside the
            generator's (or beside its run), a bundled or a named one, or any known one with the recorded weights. The
            checkpoint may be a stranger's: a path or an address in it is not followed.

    Raises:
        ArzooError: It is not the tokenizer the generator was trained on, or none is recorded and none given.
    """
    wanted = generator.index.get("tokenizer") or {}
    name = str(wanted.get("name", ""))
    if not name and override is None:
        raise ArzooError(
            f"{generator.folder} does not say which tokenizer it belongs to. Name one with --tokenizer (in Python: "
            "tokenizer=), or when bringing weights in: arzoo convert SRC DST --tokenizer NAME"
        )
    if override:
        return _of_generator(generator, override)
    here = next((path for path in _places(generator.folder, name) if (path / INDEX).exists()), None)
    refusal = None
    if here is not None:
        try:
            return _of_generator(generator, here)
        except ArzooError as error:
            refusal = error
    other = with_weights(wanted["sha256"]) if wanted.get("sha256") else None
    if other is not None:
        return _of_generator(generator, other)
    raise refusal or ArzooError(
        f"the tokenizer {name!r} of {generator.folder} is not here: neither in its folder nor among the checkpoints "
        "that are known (`arzoo checkpoints ls`), and a path or an address in a checkpoint is not followed. Say where "
        "it is: --tokenizer (in Python: tokenizer=)"
    )


def _places(folder: Path, name: str) -> list[Path]:
    """Where the tokenizer of a generator's folder may be that is recorded under a name."""
    places = [folder / "tokenizer"]
    if is_name(name):
        run = folder.parent
        places = [folder / name, *places, run / name, run.parent / name / "checkpoint"]
        places += [BUNDLED / name, store_folder() / name]
    return places


def _of_generator(generator: Checkpoint, where: str | Path) -> Checkpoint:
    """The tokenizer at a place, refused if it is not the generator's."""
    found = open_checkpoint(where, "tokenizer")
    weights, wanted = found.parts["tokenizer"]["weights"], generator.index.get("tokenizer") or {}
    config = found.config("tokenizer") if wanted.get("settings") else None
    refuse_other_tokenizer(str(generator.folder), wanted, weights, str(where), config)
    return found


def refuse_other_tokenizer(
    generator: str, wanted: Mapping[str, Any], weights: str, name: str, config: Config | None
) -> None:
    """Compare the tokenizer a generator was trained on with the one it is about to work with.

    Args:
        generator: What to call the generator in the message.
        wanted: {"name", "sha256", "settings"} of the tokenizer recorded with it; any tokenizer will do without a hash,
            and any settings without `settings`, which older generators do not have.
        weights: `weights_sha256` of the tokenizer at hand.
        name: What to call that one.
        config: Its settings: the scale of its vectors is no weight.

    Raises:
        ArzooError: They differ.
    """
    if wanted.get("sha256") and wanted["sha256"] != weights:
        raise ArzooError(
            f"{generator} was trained on tokenizer {wanted.get('name')!r} ({str(wanted['sha256'])[:12]}), you "
            f"passed {name!r} ({weights[:12]}). Its codes mean something else: use the former, or encode the "
            "data again with `arzoo tokenize` and train a generator on it."
        )
    if wanted.get("settings") and config is not None:
        made_for, here = type(config).from_dict(wanted["settings"]).to_dict(), config.to_dict()
        other = [f"{key} {made_for[key]}, not {here[key]}" for key in here if made_for[key] != here[key]]
        if other:
            raise ArzooError(
                f"{generator} was trained on tokenizer {wanted.get('name')!r} with {'; '.join(other)} as in the one "
                f"you passed, {name!r}. Its tokens mean something else: use the tokenizer with the former settings."
            )


def weights_sha256(state: Mapping[str, Tensor] | nn.Module) -> str:
    """The sha256 of names, shapes and values, equal for stored weights and the float32 ones read from them."""
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
    """A config class by its full name: ours is imported, others must come in through a plug-in."""
    module, package = path.rpartition(".")[0], path.partition(".")[0]
    if package == "arzoo":
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ArzooError(
                f"this arzoo {__version__} has no {path}; was it written by a newer one?"
            ) from error
    found = _known_configs().get(path)
    if found is None:
        for kind in ("tokenizer", "backbone", "head"):
            registry.names(kind)
        found = _known_configs().get(path)
    if found is None:
        raise ArzooError(f"the checkpoint needs {path}, which is not here. Install the package {package!r}.")
    return found


def _known_configs() -> dict[str, type[Config]]:
    found, todo = {}, [Config]
    while todo:
        cls = todo.pop()
        found[_class_path(cls)] = cls
        todo.extend(cls.__subclasses__())
    return found


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
