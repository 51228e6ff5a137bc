"""Synthetic electron microscopy, and volumes."""

import sys

import pytest
import torch
from scipy import ndimage

from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.data.em import em_synthetic
from arzoo.data.volume import Volume, connected

SIDES = (6, 64, 80)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return em_synthetic(SIDES, seed=1)


def test_a_volume_is_a_function_of_its_seed(volume):
    assert (volume.sides, volume.voxels.dtype, volume.labels.dtype) == (SIDES, torch.uint8, torch.int64)
    assert em_synthetic(SIDES, seed=1).sha256 == volume.sha256
    assert em_synthetic(SIDES, seed=2).sha256 != volume.sha256


def test_every_cell_is_one_piece(volume):
    labels = volume.labels
    assert labels.unique().tolist() == [*range(1, int(labels.max()) + 1)]
    assert labels.max() > 10
    for cell in labels.unique():
        assert ndimage.label(labels == cell)[1] == 1


def test_cells_go_through_slices(volume):
    """Slices are alike, but not the same."""
    same = (volume.labels[1:] == volume.labels[:-1]).float().mean()
    assert 0.6 < same < 0.98


def test_membranes_are_dark(volume):
    labels, grey = volume.labels, volume.voxels.float()
    border = torch.zeros_like(labels, dtype=torch.bool)
    border[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    assert grey[border].mean() < grey[~border].mean() - 50
    assert 90 < grey.mean() < 170


@pytest.mark.parametrize("cells", [1, 2, 5])
def test_connected_pieces_are_those_of_scipy(cells):
    labels = torch.randint(0, cells + 1, (5, 9, 8), generator=torch.Generator().manual_seed(cells))
    pieces = connected(labels)
    assert torch.equal(pieces == 0, labels == 0)
    found = 0
    for cell in range(1, cells + 1):
        theirs, count = ndimage.label(labels == cell)
        for piece in range(1, count + 1):
            (number,) = pieces[torch.from_numpy(theirs) == piece].unique().tolist()
            assert (pieces == number).sum() == (theirs == piece).sum()
        found += count
    assert pieces.unique()[pieces.unique() > 0].tolist() == [*range(1, found + 1)]
    first = [int((pieces.flatten() == number).nonzero()[0]) for number in range(1, found + 1)]
    assert first == sorted(first)


def test_labels_may_be_larger_than_32_bits():
    labels = torch.tensor([[[1 << 40, 1 << 40, 5, 0, 1 << 40]]])
    assert connected(labels).tolist() == [[[1, 1, 2, 0, 3]]]


def test_crops(volume):
    part = volume.crop((1, 8, 16), (2, 10, 12))
    assert torch.equal(part.voxels, volume.voxels[1:3, 8:18, 16:28])
    assert torch.equal(part.labels, volume.labels[1:3, 8:18, 16:28])
    for start, sides in (((5, 0, 0), (2, 8, 8)), ((-1, 0, 0), (2, 8, 8)), ((0, 0, 0), (0, 8, 8))):
        with pytest.raises(ArzooError, match="not inside"):
            volume.crop(start, sides)


def test_what_is_refused():
    with pytest.raises(ArzooError, match="at least 1 slice"):
        em_synthetic((4, 4, 64))
    grey = torch.zeros(2, 3, 4, dtype=torch.uint8)
    with pytest.raises(ArzooError, match="uint8"):
        Volume("v", grey.float(), None, (1.0, 1.0, 1.0))
    with pytest.raises(ArzooError, match="differ in shape"):
        Volume("v", grey, torch.zeros(2, 3, 5, dtype=torch.int64), (1.0, 1.0, 1.0))


def test_the_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingPackage, match=r"arzoo\[em\]"):
        em_synthetic(SIDES)
