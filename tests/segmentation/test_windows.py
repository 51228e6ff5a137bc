"""Windows over volumes: where they lie, how they are blended, and how little of a volume is in memory."""

from __future__ import annotations

import pytest
import torch

from arzoo.base.errors import UsageError
from arzoo.data.volume import Volume
from arzoo.segmentation.windows import LEAST, blending, read_mirrored, slabs, whole, window_starts


def volume(*sides: int) -> Volume:
    torch.manual_seed(0)
    return Volume("v", torch.randint(0, 256, sides).to(torch.uint8), None, (1.0, 1.0, 1.0))


class Spy:
    """A source that records what is read."""

    name, voxel_size = "spy", None

    def __init__(self, sides):
        self.sides, self.reads = sides, []

    def read(self, start, sides):
        assert all(0 <= a and a + n <= side for a, n, side in zip(start, sides, self.sides, strict=True))
        self.reads.append((start, sides))
        return torch.zeros(sides, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("side", "window", "starts"),
    [
        (16, 16, [0]),
        (9, 16, [0]),
        (20, 16, [0, 4]),
        (28, 16, [0, 12]),
        (29, 16, [0, 12, 13]),
        (40, 16, [0, 12, 24]),
    ],
)
def test_windows_step_by_three_quarters_and_end_with_the_volume(side, window, starts):
    assert window_starts(side, window) == starts


def test_weights_fall_from_the_middle_and_are_never_nothing():
    weights = blending((5, 8, 6))
    assert weights.shape == (5, 8, 6)
    assert float(weights.max()) == float(weights[2, 3, 2]) == float(weights[2, 4, 3])
    assert torch.equal(weights, weights.flip(0, 1, 2))
    assert float(weights.min()) == pytest.approx(LEAST)
    away = (0.5 / (0.125 * 8)) ** 2 + (0.5 / (0.125 * 6)) ** 2
    assert float(weights[2, 3, 2]) == pytest.approx(float(torch.tensor(-0.5 * away).exp()))


@pytest.mark.parametrize("sides", [(13, 37, 50), (8, 20, 20), (3, 7, 50), (1, 20, 41)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_prediction_is_put_together_as_it_is(sides, batch):
    source = volume(*sides)
    made = whole(slabs(lambda x: torch.cat([x, 1 - x], 1), source, (8, 20, 20), batch=batch), sides)
    torch.testing.assert_close(made[0], source.voxels / 255, rtol=0, atol=1e-6)
    torch.testing.assert_close(made[1], 1 - source.voxels / 255, rtol=0, atol=1e-6)


def test_overlapping_predictions_are_averaged_by_their_weights():
    numbers = iter((1.0, 3.0))
    made = whole(
        slabs(lambda x: torch.full_like(x, next(numbers)), volume(4, 4, 6), (4, 4, 4), 0.5), (4, 4, 6)
    )
    first, second = blending((4, 4, 4))[..., 2:], blending((4, 4, 4))[..., :2]
    torch.testing.assert_close(made[0, ..., 2:4], (first + 3 * second) / (first + second))
    assert bool((made[0, ..., :2] == 1).all())
    assert bool((made[0, ..., 4:] == 3).all())


def test_a_small_volume_goes_on_as_its_mirror_image():
    rows = torch.arange(3, dtype=torch.uint8)[:, None, None]
    source = Volume("v", rows.clone(), None, (1.0, 1.0, 1.0))
    assert read_mirrored(source, (0, 0, 0), (8, 1, 1)).flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert read_mirrored(source, (2, 0, 0), (3, 1, 2)).unique().tolist() == [2]


def test_only_the_window_is_read_and_slabs_end_where_the_next_row_begins():
    source, most = Spy((1000, 30, 30)), 0
    for z, slab in slabs(lambda x: x, source, (8, 20, 20)):
        most = max(most, slab.shape[1])
        if z > 20:
            break
    assert {sides for _, sides in source.reads} == {(8, 20, 20)}
    assert most == 6
    assert len(source.reads) <= 5 * 4


@pytest.mark.parametrize(("overlap", "batch"), [(1.0, 1), (-0.1, 1), (0.25, 0)])
def test_windows_that_cannot_be_are_refused(overlap, batch):
    with pytest.raises(UsageError, match="windows overlap by a share"):
        next(slabs(lambda x: x, volume(8, 20, 20), (8, 20, 20), overlap, batch))
