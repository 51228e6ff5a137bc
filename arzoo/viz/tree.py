"""Picture of a search tree: a column per comparison, with the candidates that were kept and the best of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from arzoo.base.errors import ArzooError
from arzoo.viz.grid import without_accents

COLUMNS, ROWS, OTHERS = 12, 10, 3
"""Most comparisons that are shown, candidates of each, and those among them that were not kept."""
_TILE, _GAP, _LINE, _PAD = 80, 70, 16, 12
_PAPER, _INK, _PALE, _KEPT, _BEST = (
    (255, 255, 255),
    (40, 40, 40),
    (170, 170, 170),
    (30, 130, 60),
    (200, 80, 0),
)


@dataclass(frozen=True)
class Level:
    """One comparison.

    Attributes:
        steps: Steps of the plan that its candidates have.
        parents: For each candidate, the one of the previous comparison that it continues.
        scores: Scores; higher is better.
        kept: Candidates that go on, some perhaps several times; those of the last comparison are the results.
    """

    steps: int
    parents: Sequence[int]
    scores: list[float]
    kept: Sequence[int]


def search_tree(
    levels: Sequence[Level], pictures: Callable[[int, list[int]], np.ndarray], title: str = ""
) -> Image.Image:
    """Draw the tree of a search.

    A kept candidate has a green frame, the best result an orange one; lines lead to what a candidate continues. Of a
    long search, comparisons are left out evenly, never the first or the last.

    Args:
        levels: All comparisons.
        pictures: Returns the pictures (n, H, W, 3) uint8 of some candidates of a comparison, given by their numbers.
        title: Line of text above.

    Raises:
        ArzooError: There is no comparison.
    """
    if not levels:
        raise ArzooError("a search tree needs at least one comparison, got none")
    count = min(len(levels), COLUMNS)
    columns = sorted({int(i) for i in np.linspace(0, len(levels) - 1, count).round()})
    shown = _shown(levels, columns)
    title = without_accents(title)
    font = ImageFont.load_default(_LINE - 3)
    top, cell = _PAD + _LINE * (4 if title else 3), _TILE + _LINE + 8
    height = top + max(map(len, shown)) * cell + _LINE + _PAD
    width = max(len(columns) * (_TILE + _GAP), math.ceil(font.getlength(title)))
    page = Image.new("RGB", (2 * _PAD + width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_PAD, _PAD), title, fill=_INK, font=font)
    places = [
        {node: (_PAD + x * (_TILE + _GAP), top + y * cell) for y, node in enumerate(nodes)}
        for x, nodes in enumerate(shown)
    ]
    for x in range(1, len(columns)):
        for node, (left, upper) in places[x].items():
            parent = _ancestor(levels, columns[x], node, columns[x - 1])
            if parent in places[x - 1]:
                start = places[x - 1][parent]
                colour, thickness = (_KEPT, 2) if node in levels[columns[x]].kept else (_PALE, 1)
                ends = [(start[0] + _TILE + 3, start[1] + _TILE // 2), (left - 3, upper + _TILE // 2)]
                draw.line(ends, fill=colour, width=thickness)
    for x, column in enumerate(columns):
        level, nodes = levels[column], shown[x]
        left = _PAD + x * (_TILE + _GAP)
        lines = f"{level.steps} step{'s' if level.steps != 1 else ''}", f"{len(level.scores)} candidates"
        for y, text in enumerate(lines):
            draw.text((left, top - (2.4 - y) * _LINE), text, fill=_INK, font=font)
        for node, picture in zip(nodes, pictures(column, nodes), strict=True):
            _tile(draw, page, picture, places[x][node], _frame(levels, column, node))
            below = places[x][node][1] + _TILE + 3
            draw.text((left, below), f"{level.scores[node]:.4g}", fill=_INK, font=font)
        if hidden := len(level.scores) - len(nodes):
            draw.text((left, top + len(nodes) * cell), f"and {hidden} more", fill=_INK, font=font)
    return page


def _frame(levels: Sequence[Level], column: int, node: int) -> tuple[int, int, int] | None:
    """Color of the frame of a candidate; None without one."""
    level = levels[column]
    if column == len(levels) - 1 and level.scores.index(max(level.scores)) == node:
        return _BEST
    return _KEPT if node in level.kept else None


def _shown(levels: Sequence[Level], columns: Sequence[int]) -> list[list[int]]:
    """Numbers of the candidates of each column that are shown, by score: what later ones continue comes first."""
    shown: list[list[int]] = []
    needed: list[int] = []
    for x in reversed(range(len(columns))):
        level = levels[columns[x]]
        ranked = sorted(range(len(level.scores)), key=lambda i: -level.scores[i])
        others = [i for i in ranked if i not in level.kept]
        chosen = list(dict.fromkeys([*needed, *level.kept]))[: ROWS - min(OTHERS, len(others))]
        chosen += others[: min(OTHERS, ROWS - len(chosen))]
        shown.insert(0, [i for i in ranked if i in chosen])
        if x:
            kept = [i for i in shown[0] if i in level.kept] or shown[0]
            needed = [_ancestor(levels, columns[x], i, columns[x - 1]) for i in kept]
    return shown


def _ancestor(levels: Sequence[Level], level: int, node: int, earlier: int) -> int:
    """The candidate of an earlier comparison that one continues."""
    for i in range(level, earlier, -1):
        node = levels[i].parents[node]
    return node


def _tile(
    draw: ImageDraw.ImageDraw,
    page: Image.Image,
    picture: np.ndarray,
    place: tuple[int, int],
    frame: tuple[int, int, int] | None,
) -> None:
    """Paste a picture, paler without a frame."""
    tile = ImageOps.contain(Image.fromarray(picture), (_TILE, _TILE))
    if frame is None:
        tile = Image.blend(tile, Image.new("RGB", tile.size, _PAPER), 0.45)
    page.paste(tile, place)
    right, lower = place[0] + tile.width, place[1] + tile.height
    draw.rectangle(
        (place[0] - 3, place[1] - 3, right + 2, lower + 2), outline=frame or _PALE, width=3 if frame else 1
    )
