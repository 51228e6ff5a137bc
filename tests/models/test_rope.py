"""Rotary positions: every position of a picture and of a clip turns in its own way."""

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid, Pyramid
from arzoo.models.common.modulation import Rotary
from arzoo.models.common.rope import rope_table, turning_coords
from arzoo.models.llamagen.network import TransformerConfig


def distinct(table):
    return len(table.flatten(1).unique(dim=0)) == len(table)


@pytest.mark.parametrize("shape", [(1, 3, 5), (4, 3, 5), (5, 1, 1)])
@pytest.mark.parametrize("head_width", [8, 12, 64])
def test_no_two_positions_of_a_grid_turn_alike(shape, head_width):
    table = rope_table(turning_coords(Grid(*shape)), head_width)
    assert table.shape == (Grid(*shape).size, head_width // 2, 2)
    assert distinct(table)
    assert distinct(Rotary(Grid(*shape), head_width).table)
    model = TransformerConfig(width=2 * head_width, heads=2, depth=1, grid=shape, vocab=3, classes=2).build()
    assert distinct(model.rope[:-1])


def test_pictures_turn_rows_in_the_first_half_and_columns_in_the_second():
    table = rope_table(turning_coords(Grid(1, 3, 5)), 16).view(3, 5, 8, 2)
    assert torch.equal(table[:, :1, :4].expand(-1, 5, -1, -1), table[:, :, :4])
    assert torch.equal(table[:1, :, 4:].expand(3, -1, -1, -1), table[:, :, 4:])
    assert torch.equal(table[2, 0, :4], table[0, 2, 4:]), "the same frequencies on both axes"


def test_levels_of_a_pyramid_share_the_units_of_the_finest():
    levels = Pyramid((Grid(1, 2, 2), Grid(1, 4, 4)))
    table = Rotary(levels, 16).table
    assert torch.equal(table[:4].view(2, 2, 8, 2), table[4:].view(4, 4, 8, 2)[::2, ::2])


def test_heads_too_narrow_for_three_axes_are_refused():
    with pytest.raises(ArzooError, match=r"at least 6 channels, got 4"):
        TransformerConfig(width=8, heads=2, depth=1, grid=(2, 2, 2), vocab=3, classes=2).build()
