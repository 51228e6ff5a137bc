"""Sheets of slices: voxels, boundaries and cells, each cell in a color of its own."""

import numpy as np
import torch

from arzoo.viz.volumes import SHARE, colors, in_color, slice_sheet


def test_a_sheet_has_a_row_for_each_slice_that_is_shown():
    voxels = torch.full((9, 100, 120), 100, dtype=torch.uint8)
    cells = torch.ones(9, 100, 120, dtype=torch.int64)
    sheet = slice_sheet(voxels, torch.full((3, 9, 100, 120), 0.5), {"cells": cells}, shown=4)
    assert sheet.width == 3 * 122 + 2
    assert sheet.height == 4 * (100 + 12 + 2) + 2
    pixels = np.asarray(sheet)
    assert pixels[60, 60].tolist() == [100, 100, 100]
    assert pixels[60, 60 + 122].tolist() == [128, 128, 128], "an affinity of one half is grey"
    assert len(set(pixels[60, 60 + 244].tolist())) > 1, "cells have a colour"
    assert slice_sheet(voxels[:1]).height == 100 + 12 + 4


def test_no_cell_has_no_colour_and_each_cell_one_in_all_slices():
    grey = torch.full((1, 3, 3), 90, dtype=torch.uint8)
    first = in_color(grey, torch.tensor([[0, 5, 7]]))
    second = in_color(grey, torch.tensor([[7, 0, 5]]))
    assert first[0, 0].tolist() == [90, 90, 90]
    assert torch.equal(first[0, 1], second[0, 2])
    assert torch.equal(first[0, 2], second[0, 0])
    assert not torch.equal(first[0, 1], first[0, 2])
    expected = (1 - SHARE) * 90 + SHARE * colors([5])[0]
    assert torch.equal(first[0, 1], expected.round().to(torch.uint8))


def test_near_numbers_and_large_ones_have_unlike_bright_colours():
    rows = colors([1, 2, 3, 2**40, 2**40 + 1])
    assert rows.shape == (5, 3)
    assert 0 <= float(rows.min()) <= float(rows.max()) <= 255
    assert bool((rows.amax(1) > 200).all())
    for one, other in ((0, 1), (1, 2), (3, 4)):
        assert float((rows[one] - rows[other]).abs().max()) > 60
