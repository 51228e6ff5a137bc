"""Pictures of search trees: what is shown of many candidates, and where."""

import numpy as np
import pytest

from arzoo.base.errors import ArzooError
from arzoo.viz.tree import COLUMNS, OTHERS, ROWS, Level, _ancestor, _shown, search_tree


def levels(width=5, candidates=10, comparisons=4, seed=0):
    """A beam search with random scores."""
    random, out, kept = np.random.default_rng(seed), [], [0]
    for k in range(comparisons):
        count = candidates * (width if k else 1)
        parents = [kept[i // candidates] for i in range(count)]
        scores = random.normal(size=count).tolist()
        kept = sorted(range(count), key=lambda i: -scores[i])[:width]
        out.append(Level(2**k, parents, scores, kept))
    return out


def test_kept_candidates_and_the_best_others_are_shown():
    tree = levels()
    for level, nodes in zip(tree, _shown(tree, range(4)), strict=True):
        assert {*level.kept} <= {*nodes}
        assert len(nodes) == len(level.kept) + OTHERS <= ROWS
        ranked = sorted(range(len(level.scores)), key=lambda i: -level.scores[i])
        assert nodes == ranked[: len(nodes)], "a beam keeps the best, so the others follow them"


def test_what_later_candidates_continue_is_shown_first():
    """Of more kept ones than fit, those that lead to the result."""
    tree = levels(width=ROWS + 4, candidates=ROWS + 4, comparisons=3)
    shown = _shown(tree, range(3))
    assert all(len(nodes) == ROWS for nodes in shown)
    for k in (1, 2):
        kept = [node for node in shown[k] if node in tree[k].kept]
        assert {tree[k].parents[node] for node in kept} <= {*shown[k - 1]}


def test_comparisons_are_left_out_evenly():
    tree = levels(width=2, candidates=2, comparisons=3 * COLUMNS)
    asked = []

    def pictures(level, nodes):
        asked.append(level)
        return np.full((len(nodes), 8, 6, 3), 200, np.uint8)

    page = search_tree(tree, pictures, "a title")
    assert (asked[0], asked[-1], len(asked)) == (0, len(tree) - 1, COLUMNS)
    assert page.width < 150 * (COLUMNS + 1)
    node = tree[5].kept[0]
    assert _ancestor(tree, 5, node, 3) == tree[4].parents[tree[5].parents[node]]


def test_one_comparison_and_none():
    single = Level(15, [0] * 50, np.linspace(1, 0, 50).tolist(), [0])
    page = search_tree([single], lambda level, nodes: np.zeros((len(nodes), 64, 64, 3), np.uint8), "x" * 60)
    assert page.width > 300, "the title fits"
    orange = (np.asarray(page) == (200, 80, 0)).all(-1)
    assert orange.any(), "the result has a frame"
    with pytest.raises(ArzooError, match="at least one comparison"):
        search_tree([], lambda level, nodes: np.zeros((0, 1, 1, 3), np.uint8))
