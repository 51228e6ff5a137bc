"""Log of a run: log.jsonl, the console, and trackers of accelerate."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType
from rich.console import Console

from arzoo.base import files
from arzoo.base.errors import ArzooError, UnknownName

FILE = "log.jsonl"
SPEED = "samples_per_second"
"""Key of the speed in the log."""


class Log:
    """The log of a run, written by one process.

    Args:
        out: Folder of the run.
        step: Step after which the run continues. Lines of later steps belong to lost steps and are removed.
        console: Console on which lines are shown if it is not a terminal.
        units: What the samples of a step are called.
        steps: Last step of the run.
    """

    def __init__(self, out: Path, step: int, console: Console, units: str, steps: int) -> None:
        self.path, self.console, self.units, self.digits = out / FILE, console, units, len(str(steps))
        cut_log(self.path, step)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, entry: dict[str, Any], show: bool, left: str = "") -> None:
        """Add a line.

        Args:
            entry: Numbers by name.
            show: Print it on a terminal too, where the progress bar already shows the loss and the remaining time.
            left: Remaining time.

        Raises:
            ArzooError: The disk is full.
        """
        with files.explain_full_disk(FILE, self.path.parent, "Make room; then the same command continues."):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        if show or not self.console.is_terminal:
            self.show(entry, left)

    def show(self, entry: dict[str, Any], left: str = "") -> None:
        """Print a line whose numbers stand below those of the line before; arguments as for `write`."""
        numbers = {k: v for k, v in entry.items() if not isinstance(v, list)}
        texts = [f"step {numbers.pop('step'):>{self.digits}}"]
        texts += [f"{self.units}/s {numbers.pop(SPEED):<6g}"]
        texts += [] if self.console.is_terminal else [f"left {left or '-':<6}"]
        texts += [f"{k} {v:<9.4g}" for k, v in numbers.items()]
        self.console.print("  ".join(texts).rstrip(), soft_wrap=True, highlight=False, markup=False)

    def sync(self) -> None:
        """Wait until the lines are on disk: a saved state must not include steps that the log lacks."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def spread(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten numbers for trackers: those of a list become NAME/00, NAME/01, ..."""
    out: dict[str, Any] = {}
    for name, value in numbers.items():
        if isinstance(value, list):
            out |= {f"{name}/{i:02d}": number for i, number in enumerate(value)}
        else:
            out[name] = value
    return out


def cut_log(path: Path, step: int) -> None:
    """Remove the lines of steps after `step`, and an incomplete line of a killed run."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line + "\n" for line in text.splitlines() if _step_of(line) <= step)
    if kept != text:
        files.write_text(path, kept)


def _step_of(line: str) -> float:
    """Step of a log line; infinity for an incomplete line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def chosen_trackers(names: tuple[str, ...]) -> list[str]:
    """Return the trackers that can be used. TensorBoard is left out silently if it is not installed.

    Raises:
        UnknownName: accelerate has no such tracker.
        ArzooError: The package of a tracker is not installed.
    """
    known = {str(name) for name in LOGGER_TYPE_TO_CLASS}
    missing = {str(tracker) for tracker in LoggerType} - {
        str(tracker) for tracker in get_available_trackers()
    }
    for name in names:
        if name not in known:
            raise UnknownName("tracker", name, sorted(known))
        if name in missing and name != "tensorboard":
            raise ArzooError(
                f"run.trackers asks for {name!r}, whose package is not installed. Install it with: pip install {name}"
            )
    return [name for name in names if name not in missing]


def start_trackers(
    accelerator: Accelerator, names: tuple[str, ...], out: Path, recipe: dict[str, Any]
) -> None:
    """Open the trackers of a run, with its settings as hyper-parameters."""
    accelerator.log_with = chosen_trackers(names)
    accelerator.project_configuration.set_directories(str(out))
    if accelerator.log_with:
        accelerator.init_trackers(out.name, config=flat(recipe))


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to "a.b" with plain values, for tables of settings."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = str(value) if isinstance(value, list | None) else value
    return out
