"""The page of a run, to open in a browser while it trains and after: curves, pictures over time, settings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from arzoo.base import files
from arzoo.train.run.log import FILE as LOG
from arzoo.train.run.log import flat
from arzoo.viz.page import Figure, Table, page
from arzoo.viz.plots import Curve, can_plot, plot_curves

FILE, CURVES, PREVIEWS = "index.html", "curves.png", "previews"
PAUSE = 30.0
"""Seconds between two drawings of the curves, apart from the last one."""
MOST = 24
"""Most steps whose previews are shown, evenly spread."""
TOGETHER = {
    "loss": ("loss", "validation_loss", "train_loss"),
    "codebook": ("codes_used", "codebook_perplexity", "validation_perplexity"),
    "learning rate": ("lr",),
}
"""Panels of the curves, and the fields of the log in them; each figure of the validation has a panel besides."""


class RunPage:
    """Writes `index.html` and `curves.png` of a run.

    Args:
        out: Folder of the run.
        record: Recipe and command.
        steps: Steps of the schedule.
        console: Console that is told, once, if curves cannot be drawn.
    """

    def __init__(self, out: Path, record: Mapping[str, Any], steps: int, console: Console) -> None:
        self.out, self.record, self.steps = out, record, steps
        self._plots, self._drawn = can_plot(), float("-inf")
        if not self._plots:
            console.print(
                f"{CURVES} is not drawn, as matplotlib cannot be imported; arzoo doctor says whether it is absent or "
                "broken. Install it with: pip install 'arzoo[plots]'",
                soft_wrap=True, highlight=False, markup=False,
            )  # fmt: skip

    def write(self, step: int, last: bool) -> None:
        """Write the page after a step; curves are drawn if it is the last one, or some time has passed.

        Raises:
            ArzooError: The disk is full.
        """
        with files.explain_full_disk(FILE, self.out, "Make room; then the same command continues."):
            lines = [json.loads(line) for line in (self.out / LOG).read_text(encoding="utf-8").splitlines()]
            curves = curves_of(lines)
            if self._plots and curves and (last or time.monotonic() > self._drawn + PAUSE):
                plot_curves(curves, self.out / CURVES, "step", logarithmic=("loss",))
                self._drawn = time.monotonic()
            files.write_text(self.out / FILE, self._page(step, lines))

    def _page(self, step: int, lines: Sequence[Mapping[str, Any]]) -> str:
        content: list[Figure | Table] = []
        if (self.out / CURVES).exists():
            content.append(Figure([CURVES], "Curves", wide=True))
        for i, (of_step, names) in enumerate(previews(self.out / PREVIEWS, step)):
            content += [
                Figure([f"{PREVIEWS}/{name}"], f"After step {of_step}", name, i == 0) for name in names
            ]
        figures = {name: line[name] for line in lines for name in line if is_figure(name)}
        if figures:
            content.append(Table("Figures of the last validation", figures))
        run = {"command": self.record["command"]} if "command" in self.record else {}
        content.append(Table("Settings", run | flat(self.record["recipe"])))
        return page(f"{self.out.name}: step {step} of {self.steps}", content)


def is_figure(name: str) -> bool:
    """Return whether a field of the log is a figure of the validation other than a list."""
    return not name.endswith("_by_step") and (
        name.startswith("validation_") or name in ("train_loss", "explained_variance", "calibration_error")
    )


def curves_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    """Return the curves of the lines of a log, by panel and name; those of NAME_at_X share a panel."""
    names = dict.fromkeys(name for line in lines for name in line)
    panels = {panel: [name for name in fields if name in names] for panel, fields in TOGETHER.items()}
    shared = {name for fields in TOGETHER.values() for name in fields}
    of_validation = [name for name in names if is_figure(name) and name not in shared]
    loss = {"loss": panels.pop("loss")}
    for name in of_validation:
        loss.setdefault(name.partition("_at_")[0].replace("_", " "), []).append(name)
    curves = {}
    for panel, fields in (loss | panels).items():
        if fields:
            points = {name: [(line["step"], line[name]) for line in lines if name in line] for name in fields}
            curves[panel] = {name: Curve(*zip(*pairs, strict=True)) for name, pairs in points.items()}
    return curves


def previews(folder: Path, step: int) -> list[tuple[int, list[str]]]:
    """Return the names of the previews of each step up to `step`, the newest first; of many steps, some."""
    by_step: dict[int, list[str]] = {}
    for path in sorted(folder.glob("*_*.png")):
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and int(number) <= step:
            by_step.setdefault(int(number), []).append(path.name)
    steps = sorted(by_step)
    places = np.linspace(0, len(steps) - 1, min(len(steps), MOST)).round().astype(int)
    return [(steps[place], by_step[steps[place]]) for place in reversed(places)]
