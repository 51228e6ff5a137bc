"""Saved training states: written completely or not at all, and verified before they are loaded.

    state/step_0000123/
        PART.safetensors             weights and buffers
        PART.optimizer.safetensors   moments by parameter
        ema.safetensors              averaged weights
        trainer.json                 step, seconds, recipe
        manifest.json                size and sha256 of every file above
        checkpoint/                  the averaged weights as a checkpoint, to be used before the run is finished
    latest                           name of the newest state, written last

Everything random in a step follows from the seed and the step, so states hold no random number generators. Tensors are
stored complete, even if they are split over processes, so a run may continue with another number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from arzoo.base import files
from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.checkpoints.runs import STATES, STEP
from arzoo.train.devices import assign, full
from arzoo.train.ema import Average

_LATEST, _MANIFEST, _TRAINER = "latest", "manifest.json", "trainer.json"


def collect(
    parts: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], average: Average
) -> dict[str, dict[str, Tensor]]:
    """Collect all tensors of a state by file. All processes must call it."""
    tensors = {}
    for name, part in parts.items():
        tensors[f"{name}.safetensors"] = {k: full(v) for k, v in part.state_dict().items()}
        moments = _moments(part, optimizers[name])
        tensors[f"{name}.optimizer.safetensors"] = {k: full(v) for k, v in moments.items()}
    tensors["ema.safetensors"] = {k: full(v) for k, v in average.gather().state_dict().items()}
    return tensors


def save(
    out: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    extra: Mapping[str, Any],
    keep: int,
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write a state. Only one process may call it.

    Args:
        out: Folder of the run.
        step: Completed steps.
        tensors: Result of `collect`.
        extra: Plain data to store with the tensors.
        keep: Number of states to keep; older ones are removed after the write.
        add: Called with the folder before it appears, to write more into it, which resuming does not need.

    Raises:
        ArzooError: The disk is full.
    """
    states, name = out / STATES, f"{STEP}{step:07d}"
    target, partial = states / name, states / f".{name}.partial"
    states.mkdir(parents=True, exist_ok=True)
    if not target.exists() or damage(target):
        with files.explain_full_disk(f"the state of step {step}", states, _remedy(out)):
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                _fill(partial, tensors, {"step": step, **extra})
                if add is not None:
                    add(partial)
                shutil.rmtree(target, ignore_errors=True)
                files.move_folder(partial, target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    with files.explain_full_disk(_LATEST, out, _remedy(out)):
        files.write_text(out / _LATEST, target.name)
    older = sorted(folder for folder in states.glob(f"{STEP}*") if folder.name < target.name)
    for folder in older[: max(len(older) - keep + 1, 0)]:
        shutil.rmtree(folder, ignore_errors=True)


def latest(out: Path, tell: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest intact state of a run; None if none was saved.

    Args:
        out: Folder of the run.
        tell: Called with a message for every damaged state, which is skipped.

    Raises:
        ArzooError: All states are damaged.
    """
    folders = sorted((out / STATES).glob(f"{STEP}*"), reverse=True)
    for folder in folders:
        fault = damage(folder)
        if fault is None:
            return folder
        if tell:
            tell(f"the saved state {folder} is not whole ({fault}); looking for the one before")
    if folders:
        raise ArzooError(
            f"no saved state in {out / STATES} is whole: {folders[0].name}: {damage(folders[0])}. Bring the files "
            "back, or remove that folder to start from the first step."
        )
    return None


def find(path: Path) -> Path:
    """Return the state of a path: the state itself, or the newest intact state of a run.

    Raises:
        ArzooError: There is no state, or it is damaged.
    """
    if (path / _MANIFEST).exists():
        if fault := damage(path):
            raise ArzooError(
                f"the saved state {path} is not whole ({fault}). Give the one before it, or the run's folder."
            )
        return path
    newest = latest(path)
    if newest is None:
        raise ArzooError(
            f"{path} holds no saved state. --resume takes auto, never, a run's folder or OUT/{STATES}/{STEP}…"
        )
    return newest


def damage(folder: Path) -> str | None:
    """Return what is wrong with a state; None if every file agrees with the manifest."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, facts in manifest.items():
            size = (folder / name).stat().st_size
            if size != facts["bytes"]:
                return f"{name} has {size} of {facts['bytes']} bytes"
            if file_sha256(folder / name) != facts["sha256"]:
                return f"{name} has another sha256 than when it was written"
    except OSError as error:
        return f"{error.strerror}: {Path(error.filename).name if error.filename else folder.name}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {_MANIFEST} cannot be read ({error})"
    return None if _TRAINER in manifest else f"its {_MANIFEST} does not name {_TRAINER}"


def trainer(folder: Path) -> dict[str, Any]:
    """Read the `extra` data of `save`, with "step"."""
    return dict(json.loads((folder / _TRAINER).read_text(encoding="utf-8")))


def restore(
    folder: Path,
    parts: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    average: Average,
) -> None:
    """Load a state into modules and optimizers.

    Raises:
        ArzooError: The state does not belong to these modules.
    """
    try:
        for name, part in parts.items():
            _load_module(part, load_file(folder / f"{name}.safetensors"))
            _load_moments(part, optimizers[name], load_file(folder / f"{name}.optimizer.safetensors"))
        average.load(load_file(folder / "ema.safetensors"))
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        raise ArzooError(
            f"the saved state {folder} does not fit this recipe ({error}). Use another --out, or remove the folder to "
            "start again."
        ) from error


def sweep(out: Path) -> None:
    """Remove incomplete files of a killed run."""
    for pattern in (".*.partial", ".*.old", f"{STATES}/.*.partial"):
        for path in out.glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _fill(folder: Path, contents: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    for name, tensors in contents.items():
        files.save_tensors(tensors, folder / name)
    files.write_text(folder / _TRAINER, json.dumps(facts))
    names = [*contents, _TRAINER]
    manifest = {n: {"bytes": os.path.getsize(folder / n), "sha256": file_sha256(folder / n)} for n in names}
    files.write_text(folder / _MANIFEST, json.dumps(manifest, indent=2))


def _remedy(out: Path) -> str:
    pointer = out / _LATEST
    safe = (
        f"{pointer.read_text()} is whole and nothing else is lost"
        if pointer.exists()
        else "Nothing was saved yet"
    )
    return f"{safe}. Make room, or keep fewer states with --run.keep 1; then the same command continues."


def _moments(part: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors of an optimizer as "PARAMETER/MOMENT"."""
    state = optimizer.state
    return {
        f"{name}/{key}": value
        for name, parameter in part.named_parameters()
        for key, value in state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _load_module(part: nn.Module, stored: dict[str, Tensor]) -> None:
    own = part.state_dict()
    if own.keys() != stored.keys():
        raise KeyError(f"tensors {sorted(own.keys() ^ stored.keys())[:4]} are in one of the two only")
    for name, value in own.items():
        if value.shape != stored[name].shape:
            raise RuntimeError(f"{name} is {tuple(stored[name].shape)}, not {tuple(value.shape)}")
        assign(value, stored[name])


def _load_moments(part: nn.Module, optimizer: torch.optim.Optimizer, stored: dict[str, Tensor]) -> None:
    parameters = dict(part.named_parameters())
    for path, value in stored.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            moment = torch.zeros_like(parameter, requires_grad=False)
            assign(moment, value)
        else:  # a count of steps; optimizers keep it on the CPU
            moment = value
        optimizer.state[parameter][key] = moment
