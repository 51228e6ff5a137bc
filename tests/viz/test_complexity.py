"""Pictures ranked by their number of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from arzoo.base.errors import ArzooError
from arzoo.viz.complexity import complexity_sheet, evenly_ranked


def test_pictures_are_spread_over_the_ranking():
    counts = np.array([5, 1, 9, 3, 7, 1])
    assert evenly_ranked(counts) == [1, 5, 3, 0, 4, 2], "equal ones stay in their order"
    assert evenly_ranked(counts, 3) == [1, 3, 2]
    assert evenly_ranked(np.arange(1000)[::-1], 5) == [999, 749, 499, 250, 0]
    assert evenly_ranked(counts, 1) == [1]


def test_the_sheet_runs_from_few_to_many_tokens():
    counts = np.array([40, 2, 30, 10])
    pictures = np.broadcast_to(counts.astype(np.uint8)[:, None, None, None], (4, 16, 16, 3))
    sheet = np.asarray(complexity_sheet(pictures, counts))
    assert sheet.shape == (2 * (96 + 16 + 2) + 2, 2 * 98 + 2, 3)
    tiles = [sheet[2 + r * 114 : 98 + r * 114, 2 + c * 98 : 98 + c * 98] for r in (0, 1) for c in (0, 1)]
    assert [int(tile.max()) for tile in tiles] == [int(tile.min()) for tile in tiles] == [2, 10, 30, 40]
    below = sheet[98:114]
    assert below.min() < 60, "the count stands below"
    with pytest.raises(ArzooError, match="3 counts for 4 pictures"):
        complexity_sheet(pictures, counts[:3])
