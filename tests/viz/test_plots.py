"""Plots of figures."""

import pytest

from arzoo.viz.plots import Band, Curve, plot_bands, plot_curves

LINES = {f"a method with a name, {i}": Band((1, 2, 4), (i, i + 1, i + 2), (0.1, None, 0.3)) for i in range(5)}
PANELS = {"one": LINES, "two": dict(list(LINES.items())[:2])}


@pytest.mark.parametrize(
    ("plot", "panels"),
    [
        (plot_bands, PANELS),
        (
            plot_curves,
            {name: {k: Curve(*line[:2]) for k, line in lines.items()} for name, lines in PANELS.items()},
        ),
    ],
)
def test_legends_cover_no_points(tmp_path, monkeypatch, plot, panels):
    """They stand outside of the axes, and inside the page."""
    figure = pytest.importorskip("matplotlib.figure")
    pages, save = [], figure.Figure.savefig

    def saved(page, *options, **more):
        pages.append(page)
        return save(page, *options, **more)

    monkeypatch.setattr(figure.Figure, "savefig", saved)
    plot(panels, tmp_path / "plot.png", "places")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    (page,) = pages
    page.canvas.draw()
    boxes = [panel.get_legend().get_window_extent() for panel in page.axes]
    assert len(boxes) == 2
    for panel, box in zip(page.axes, boxes, strict=True):
        assert box.y0 >= panel.get_window_extent().y1
        assert 0 <= box.x0 < box.x1 <= page.bbox.x1
        assert box.y1 <= page.bbox.y1
    assert boxes[0].x1 <= boxes[1].x0, "they do not overlap"
