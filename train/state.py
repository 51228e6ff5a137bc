"""Saved training states: written whole or not at all, found again by the next run of the same command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.utils import ModelEmaV3

from arzoo.errors import ArzooError

_LATEST = "latest"


def save(
    accelerator: Accelerator, out: Path, step: int, ema: ModelEmaV3, extra: dict[str, Any], keep: int
) -> None:
    """Save everything a run needs to go on behind a step.

    The state is made under a temporary name, moved into place, and `latest` points to it only then.

    Args:
        accelerator: Holds the prepared modules and optimizers.
        out: Folder of the run.
        step: Steps done.
        ema: Averaged weights.
        extra: Plain data to keep beside the tensors.
        keep: Older states beyond this many are removed.
    """
    states = out / "state"
    target, partial = states / f"step_{step:07d}", states / f".step_{step:07d}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        states.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial), safe_serialization=True)
    if accelerator.is_main_process:
        save_file(
            {k: v.contiguous() for k, v in ema.module.state_dict().items()}, partial / "ema.safetensors"
        )
        (partial / "trainer.json").write_text(json.dumps({"step": step, **extra}))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        pointer = out / f".{_LATEST}.partial"
        pointer.write_text(target.name)
        os.replace(pointer, out / _LATEST)
        for old in sorted(states.glob("step_*"))[:-keep]:
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def latest(out: Path) -> Path | None:
    """The newest whole state of a run, None when there is none."""
    pointer = out / _LATEST
    if not pointer.exists():
        return None
    target = out / "state" / pointer.read_text().strip()
    return target if (target / "trainer.json").exists() else None


def restore(accelerator: Accelerator, folder: Path, ema: ModelEmaV3) -> dict[str, Any]:
    """Load a saved state into prepared modules and optimizers.

    Returns:
        What `save` was given as `extra`, with "step".

    Raises:
        ArzooError: The state does not belong to these modules.
    """
    try:
        accelerator.load_state(str(folder))
        ema.module.load_state_dict(load_file(folder / "ema.safetensors"))
    except (SafetensorError, RuntimeError, KeyError, OSError, ValueError) as error:
        raise ArzooError(
            f"the saved state {folder} does not fit this recipe ({error}). Use another --out, or remove the folder to "
            "start again."
        ) from error
    return json.loads((folder / "trainer.json").read_text())


def to_floats(metrics: dict[str, Any]) -> dict[str, float]:
    """Numbers to log as plain floats."""
    return {k: float(v.detach()) if isinstance(v, torch.Tensor) else float(v) for k, v in metrics.items()}
