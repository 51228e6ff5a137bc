"""Folders of training runs: which of a run's checkpoints is its newest.

    RUN/checkpoint                       written at the end
    RUN/state/step_0000500/checkpoint    the averaged weights, written with every saved state

Imports no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.checkpoints.index import INDEX, read_index

CHECKPOINT, STATES, STEP = "checkpoint", "state", "step_"
RECIPE = "recipe.yaml"


class Unfinished(UserWarning):
    """The weights are those of a saved state of a training that has not ended."""


def checkpoint_in(path: Path) -> Path | None:
    """Return the checkpoint in a folder: the folder itself, or the newest one of a run; None if it holds none.

    That of a saved state is the newest if it has more steps than the one of the run's end. Damaged states are passed
    over.

    Raises:
        ArzooError: The run has only saved states, and all are damaged.

    Warns:
        Unfinished: A saved state is damaged.
    """
    if (path / INDEX).exists():
        return path
    final, damages = path / CHECKPOINT, list[str]()
    for folder in later_states(path):
        damage = _damage(folder)
        if not damage:
            return folder
        damages.append(f"the saved state {folder.parent} is damaged: {damage}")
        warnings.warn(f"{damages[-1]}; the one before it is used", Unfinished, stacklevel=2)
    if (final / INDEX).exists():
        return final
    if damages:
        raise ArzooError(f"{damages[0]}. {path} has no other one that can be used: continue the training.")
    return None


def newest(run: Path) -> Path | None:
    """Return the folder of `checkpoint_in`, of which only the names are looked at, for listings."""
    final = run / CHECKPOINT
    return next(later_states(run), final if (final / INDEX).exists() else None)


def later_states(run: Path) -> Iterator[Path]:
    """Yield the checkpoints of the saved states with more steps than the one of the run's end, the newest first."""
    done = -1
    if (run / CHECKPOINT / INDEX).exists():
        try:
            done = int(read_index(run / CHECKPOINT)["training"]["steps"])
        except (ArzooError, KeyError, TypeError, ValueError):
            return  # a damaged end is said when it is read
    for folder in sorted(
        (path.parent for path in run.glob(f"{STATES}/{STEP}*/{CHECKPOINT}/{INDEX}")), reverse=True
    ):
        number = folder.parent.name.removeprefix(STEP)
        if number.isdigit() and int(number) > done:
            yield folder


def is_state(checkpoint: Path) -> bool:
    """Return whether a checkpoint folder lies in a saved state of a run."""
    state = checkpoint.parent
    return checkpoint.name == CHECKPOINT and state.name.startswith(STEP) and state.parent.name == STATES


def run_of(checkpoint: Path) -> Path:
    """Return the folder of the run of a checkpoint folder; for one of no run, the folder around it."""
    return checkpoint.parents[2] if is_state(checkpoint) else checkpoint.parent


def progress_of(index: Mapping[str, Any]) -> str:
    """Return how far the training of a checkpoint had come, such as "step 300 of 1000"."""
    training = index.get("training", {})
    recipe = training.get("recipe")
    pace = recipe.get("run") if isinstance(recipe, dict) else None
    total = pace.get("steps") if isinstance(pace, dict) else None
    return f"step {training.get('steps')}" + (f" of {total}" if total else "")


@contextmanager
def explain_replaced(checkpoint: Path) -> Iterator[None]:
    """Explain errors of reading a saved state that the training has removed meanwhile."""
    try:
        yield
    except ArzooError as error:
        if is_state(checkpoint) and not checkpoint.exists():
            raise ArzooError(
                f"{checkpoint.parent} was removed by its training, which has saved newer ones, while it was read. Give "
                "the same command again."
            ) from error
        raise


def _damage(folder: Path) -> str:
    """Return what is wrong with the files of a checkpoint, empty if nothing is."""
    try:
        for part, facts in read_index(folder)["parts"].items():
            for name, key in (("model.safetensors", "sha256"), ("config.json", "config")):
                path = folder / part / name
                status = path.stat()
                if _sha256(path.resolve(), status.st_ino, status.st_mtime_ns, status.st_size) != facts[key]:
                    return f"{part}/{name} has another sha256 than when it was written"
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    except (ArzooError, KeyError) as error:
        return str(error)
    return ""


@lru_cache(maxsize=64)
def _sha256(path: Path, *status: int) -> str:
    """Return the hash of a file of this status; a command resolves the name of a run several times."""
    return file_sha256(path)
