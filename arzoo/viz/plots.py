"""Plots, which need the optional package matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arzoo.base.errors import require
from arzoo.base.files import atomic_file

PANELS = 2
"""Panels in a row."""


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_curve(points: Sequence[Mapping[str, Any]], path: Path, title: str = "") -> None:
    """Plot figures with their standard errors over the mean number of tokens, a panel each, as PNG.

    Args:
        points: For each, `figures`: value and error by name, among them `tokens` (`arzoo.metrics.curve.Point.to_dict`).
        path: Path of the file.
        title: Line above the panels.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    require("matplotlib", "plots")
    from matplotlib.figure import Figure

    figures = [point["figures"] for point in points]
    names = [name for name in figures[0] if name != "tokens"]
    columns, tokens = min(PANELS, len(names)), [figure["tokens"]["value"] for figure in figures]
    rows = -(-len(names) // columns)
    page = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    page.suptitle(title)
    for panel, name in zip(page.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        values = [figure[name]["value"] for figure in figures]
        errors = [figure[name]["error"] or 0.0 for figure in figures]
        panel.errorbar(tokens, values, errors, marker="o", capsize=3)
        panel.set(xlabel="tokens per picture", ylabel=name)
        if min(tokens) > 0:
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    with atomic_file(path, overwrite=True) as partial:
        page.savefig(partial, format="png", dpi=120)


def plot_lines(lines: Mapping[str, Sequence[float]], path: Path, xlabel: str) -> None:
    """Plot rows of numbers over their places, a panel each, as PNG.

    Args:
        lines: Numbers by name.
        path: Path of the file.
        xlabel: What the places are.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    require("matplotlib", "plots")
    from matplotlib.figure import Figure

    page = Figure(figsize=(4.5 * len(lines), 3.2), layout="constrained")
    for panel, (name, numbers) in zip(
        page.subplots(1, len(lines), squeeze=False).flat, lines.items(), strict=True
    ):
        panel.plot(numbers, marker=".")
        panel.set(xlabel=xlabel, ylabel=name.replace("_", " "))
        panel.grid(alpha=0.3)
    with atomic_file(path, overwrite=True) as partial:
        page.savefig(partial, format="png", dpi=120)


def plot_bands(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float | None]]]],
    x: Sequence[float],
    path: Path,
    xlabel: str,
) -> None:
    """Plot lines with bands of their standard errors over powers of two, as PNG.

    Args:
        panels: For every panel, values and their errors by the name of a line.
        x: Places of the values.
        path: Path of the file.
        xlabel: What the places are.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    require("matplotlib", "plots")
    from matplotlib.figure import Figure

    page = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    for panel, (name, lines) in zip(
        page.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        for label, (values, errors) in lines.items():
            low, high = zip(
                *((v - (e or 0), v + (e or 0)) for v, e in zip(values, errors, strict=True)), strict=True
            )
            panel.plot(x, values, marker="o", label=label)
            panel.fill_between(x, low, high, alpha=0.2)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set(xlabel=xlabel, ylabel=name)
        panel.grid(alpha=0.3)
        panel.legend()
    with atomic_file(path, overwrite=True) as partial:
        page.savefig(partial, format="png", dpi=120)
