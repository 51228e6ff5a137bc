"""Plots, which need the optional package matplotlib."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from arzoo.base.errors import require
from arzoo.base.files import atomic_file

PANELS, WIDE = 2, 3
"""Panels in a row, and those of curves."""
DOTS = 40
"""Most points of a curve that are marked."""


class Curve(NamedTuple):
    """A line of a plot: places and values."""

    x: Sequence[float]
    values: Sequence[float]


class Band(NamedTuple):
    """A line of a plot: places, values, and their standard errors, None where there is none."""

    x: Sequence[float]
    values: Sequence[float]
    errors: Sequence[float | None]


def can_plot() -> bool:
    """Return whether matplotlib can be imported."""
    try:
        importlib.import_module("matplotlib.backends.backend_agg")
    except Exception:  # one that was built for another NumPy raises more than import errors
        return False
    return True


def plot_curve(points: Sequence[Mapping[str, Any]], path: Path, title: str = "") -> None:
    """Plot figures with their standard errors over the mean number of tokens, a panel each, as PNG.

    Args:
        points: For each, `figures`: value and error by name, among them `tokens` (`arzoo.metrics.curve.Point.to_dict`).
        path: Path of the file.
        title: Line above the panels.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    figures = [point["figures"] for point in points]
    names, tokens = [name for name in figures[0] if name != "tokens"], [f["tokens"]["value"] for f in figures]
    with _panels(names, path, "tokens per picture", columns=min(PANELS, len(names)), title=title) as panels:
        for name, panel in panels.items():
            values = [figure[name]["value"] for figure in figures]
            errors = [figure[name]["error"] or 0.0 for figure in figures]
            panel.errorbar(tokens, values, errors, marker="o", capsize=3)
            if min(tokens) > 0:
                _by_powers_of_two(panel)


def plot_lines(lines: Mapping[str, Sequence[float]], path: Path, xlabel: str) -> None:
    """Plot rows of numbers over their places, a panel each, as PNG.

    Args:
        lines: Numbers by name.
        path: Path of the file.
        xlabel: What the places are.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    words = {name: name.replace("_", " ") for name in lines}
    with _panels(words.values(), path, xlabel) as panels:
        for name, numbers in lines.items():
            panels[words[name]].plot(numbers, marker=".")


def plot_curves(
    curves: Mapping[str, Mapping[str, Curve]], path: Path, xlabel: str, logarithmic: Collection[str] = ()
) -> None:
    """Plot curves, as PNG.

    Args:
        curves: For every panel, curves by name.
        path: Path of the file.
        xlabel: What the places are.
        logarithmic: Panels whose values are shown by their logarithms if they span more than a factor of ten.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    with _panels(curves, path, xlabel, columns=min(WIDE, len(curves))) as panels:
        for name, panel in panels.items():
            for label, (x, values) in curves[name].items():
                panel.plot(x, values, marker="." if len(x) <= DOTS else "", label=label)
            if len(curves[name]) > 1:
                _legend(panel)
            values = [value for curve in curves[name].values() for value in curve.values]
            if name in logarithmic and max(values) > 10 * min(values) > 0:
                panel.set_yscale("log")


def plot_bands(bands: Mapping[str, Mapping[str, Band]], path: Path, xlabel: str, powers: bool = True) -> None:
    """Plot lines with bands of their standard errors, as PNG.

    Args:
        bands: For every panel, lines by name.
        path: Path of the file.
        xlabel: What the places are.
        powers: Show powers of two at equal distances.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    with _panels(bands, path, xlabel, height=3.6) as panels:
        for name, panel in panels.items():
            for label, (x, values, errors) in bands[name].items():
                pairs = [(value, error or 0.0) for value, error in zip(values, errors, strict=True)]
                low, high = (
                    [value - error for value, error in pairs],
                    [value + error for value, error in pairs],
                )
                panel.plot(x, values, marker="o", label=label)
                panel.fill_between(x, low, high, alpha=0.2)
            if powers:
                _by_powers_of_two(panel)
            _legend(panel)


@contextmanager
def _panels(
    names: Collection[str], path: Path, xlabel: str, columns: int = 0, height: float = 3.2, title: str = ""
) -> Iterator[dict[str, Any]]:
    """Context with empty panels by name, which are written as PNG at its end.

    Args:
        names: Their names, which stand beside them.
        path: Path of the file.
        xlabel: Name of the other axis.
        columns: Panels in a row; 0 for all.
        height: Height of a panel.
        title: Line above the panels.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    require("matplotlib", "plots")
    from matplotlib.figure import Figure

    columns = columns or len(names)
    rows = -(-len(names) // columns)
    page = Figure(figsize=(4.5 * columns, height * rows), layout="constrained")
    page.suptitle(title)
    axes = list(page.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[len(names) :]:
        empty.remove()
    panels = dict(zip(names, axes, strict=False))
    for name, panel in panels.items():
        panel.set(xlabel=xlabel, ylabel=name)
        panel.grid(alpha=0.3)
    yield panels
    with atomic_file(path, overwrite=True) as partial:
        page.savefig(partial, format="png", dpi=120)


def _legend(panel: Any) -> None:
    """Name the lines of a panel above its axes: inside them the legend might cover points."""
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small")


def _by_powers_of_two(panel: Any) -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
