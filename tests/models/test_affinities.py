"""Affinities against their definition voxel by voxel, their balance, and learning them."""

import itertools

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.data.em import em_synthetic
from arzoo.models.tokenunify.affinities import NEAREST, affinities, affinity_loss, balance, without_borders
from arzoo.models.tokenunify.network import SegMambaConfig

SHAPE = 2, 3, 5, 6


def labels(cells: int = 3) -> torch.Tensor:
    """Random cells, with ids above 32 bits, and no cell at some voxels."""
    return torch.randint(0, cells + 1, SHAPE, generator=torch.Generator().manual_seed(cells)) * (1 << 33)


@pytest.mark.parametrize("offsets", [NEAREST, ((0, 3, 0), (-2, -1, 4), (1, 0, 0))])
def test_affinities(offsets):
    ids = labels()
    got = affinities(ids, offsets)
    assert (got.shape, got.dtype) == ((2, len(offsets), 3, 5, 6), torch.float32)
    for b, *place in itertools.product(*map(range, SHAPE)):
        own = ids[(b, *place)]
        for k, offset in enumerate(offsets):
            other = [a + step for a, step in zip(place, offset, strict=True)]
            outside = any(not 0 <= a < side for a, side in zip(other, SHAPE[1:], strict=True))
            same = bool(own > 0) and (outside or bool(own == ids[(b, *other)]))
            assert got[(b, k, *place)] == same


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_borders(cells):
    ids = labels(cells)
    got = without_borders(ids)
    for b, z, y, x in itertools.product(*map(range, SHAPE)):
        # A mirror shows only pixels that are neighbors anyway.
        near = ids[b, z, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        border = len(near[near > 0].unique()) > 1
        assert got[b, z, y, x] == (0 if border else ids[b, z, y, x])


def test_zeros_and_ones_weigh_the_same():
    some = torch.zeros(4, 2, 2, 5, 5)
    some.flatten(1)[0, :20] = 1
    some.flatten(1)[1, :80] = 1
    some.flatten(1)[2, :1] = 1
    weights = balance(some)
    for row, (ones, zeros) in enumerate(((4, 1), (1, 4), (19, 1))):
        assert weights[row][some[row] > 0].unique().tolist() == pytest.approx([ones])
        assert weights[row][some[row] == 0].unique().tolist() == pytest.approx([zeros])
    for constant in (some[3:], some[3:] + 1):
        assert torch.equal(balance(constant), torch.ones_like(constant))


def test_the_loss_sums_offsets():
    target = affinities(labels())
    predicted = torch.rand(target.shape, generator=torch.Generator().manual_seed(1))
    loss = affinity_loss(predicted, target)
    errors = balance(target) * (predicted - target) ** 2
    torch.testing.assert_close(loss, errors.flatten(1).sum(1) / (3 * 5 * 6))
    torch.testing.assert_close(affinity_loss(predicted[1:], target[1:]), loss[1:])


def test_an_offset_out_of_the_volume_is_refused():
    with pytest.raises(ArzooError, match=r"\(0, -5, 0\) is not within a volume of 3 x 5 x 6"):
        affinities(labels(), [(0, -5, 0)])


def test_a_network_learns_affinities():
    torch.manual_seed(0)
    volume = em_synthetic((4, 40, 40))
    target = affinities(without_borders(volume.labels[None]))
    network = SegMambaConfig(widths=(6, 8), depths=(1, 1), hidden=8, kernel=(1, 3, 3)).build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = affinity_loss(network(volume.voxels[None, None] / 255), target).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
