"""The curve of a tokenizer over the number of tokens: its table and its plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from arzoo.base.console import note, table
from arzoo.base.errors import MissingPackage

if TYPE_CHECKING:
    from arzoo.cli.output import Output

CURVE = "curve.png"


def curve_table(points: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for every point, values with their standard errors."""
    names = list(points[0]["figures"])
    asked = [name for name in points[0] if name != "figures"]
    rows = [
        (*(f"{point[name]:g}" for name in asked), *(_with_error(point["figures"][name]) for name in names))
        for point in points
    ]
    return table(rows, (*asked, *names))


def draw_curve(document: dict[str, Any], output: Output) -> None:
    """Plot the curve of an evaluation into its folder; without matplotlib, say how to get it."""
    from arzoo.viz.plots import plot_curve

    try:
        plot_curve(document["curve"], output.folder / CURVE, document["subject"])
    except MissingPackage as error:
        note(f"{CURVE} is not drawn: {error}")
    else:
        output.path(CURVE)


def _with_error(figure: dict[str, Any]) -> str:
    error = "" if figure["error"] is None else f" ± {figure['error']:.2g}"
    return f"{figure['value']:.5g}{error}"
