"""The checkpoint of a run, with the record of how its weights were made."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from arzoo.base import files, runtime
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.index import PICTURE
from arzoo.checkpoints.runs import CHECKPOINT
from arzoo.train.objective import Metrics, Objective
from arzoo.train.run.lineage import weights_of
from arzoo.train.run.page import PREVIEWS, previews


def record_of(
    request: Mapping[str, Any], steps: int, seconds: float, accelerator: Accelerator
) -> dict[str, Any]:
    """Record of how the weights were made.

    Args:
        request: Recipe, seed and lineage.
        steps: Completed steps.
        seconds: Time spent in them.
        accelerator: Device and number of processes.
    """
    return {
        **request,
        "steps": steps,
        "hours": round(seconds / 3600, 5),
        "hardware": runtime.hardware(accelerator.device, accelerator.num_processes),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_state(
    objective: Objective, model: nn.Module, folder: Path, record: dict[str, Any], console: Console
) -> None:
    """Write the checkpoint of a saved state, from which a run is used before it is finished.

    It has no figures and is not calibrated. Weights that cannot be stored do not keep the run from saving its state.
    """
    try:
        objective.export(model, folder / CHECKPOINT, {}, record)
    except ArzooError as error:
        console.print(f"this state can be continued but not used otherwise: {error}", markup=False)


def write(
    objective: Objective,
    model: nn.Module,
    out: Path,
    metrics: Metrics,
    record: dict[str, Any],
    console: Console,
    *,
    trained: bool,
) -> None:
    """Write the checkpoint.

    Unless the run has `trained` since it was started, a checkpoint of the same weights is kept: figures may have been
    measured on it, and its card edited.

    Raises:
        ArzooError: The disk is full.
    """
    target = out / CHECKPOINT
    shown = previews(out / PREVIEWS, record["steps"])

    def add_picture(folder: Path) -> None:
        if shown:
            shutil.copyfile(out / PREVIEWS / shown[0][1][-1], folder / PICTURE)

    objective.calibrate(model)
    with files.explain_full_disk("the checkpoint", out, "Make room; the same command writes it."):
        if not trained and (weights := weights_of(target)):
            with TemporaryDirectory(prefix=".checkpoint.", suffix=".partial", dir=out) as folder:
                candidate = Path(folder) / target.name
                objective.export(model, candidate, metrics, record)
                if weights_of(candidate) == weights:
                    console.print(f"{target} holds these weights and stays as it is", markup=False)
                    return
        objective.export(model, target, metrics, record, add_picture)
