"""Fragments of slices, and how parts are numbered."""

import sys

import mahotas
import pytest
import torch

from arzoo.base.errors import MissingPackage
from arzoo.data.em import em_synthetic
from arzoo.data.volume import connected
from arzoo.models.tokenunify.affinities import affinities, without_borders
from arzoo.segmentation.fragments import fragments, smooth_fragments
from arzoo.segmentation.numbers import renumbered

BOTH = pytest.mark.parametrize("cut", [fragments, smooth_fragments])


def discs():
    """Affinities of two slices with two cells each, the first pair of different size."""
    labels = torch.ones(2, 40, 48, dtype=torch.int64)
    labels[0, :, 30:] = 2
    labels[1, 20:] = 3
    return affinities(without_borders(labels[None]))[0], labels


def noisy(sides=(2, 40, 48), seed=0):
    return torch.rand((3, *sides), generator=torch.Generator().manual_seed(seed))


@BOTH
def test_cells_of_a_slice_are_cut_apart(cut):
    predicted, labels = discs()
    parts, inside = cut(predicted), without_borders(labels[None])[0] > 0
    assert parts.min() > 0
    assert parts.dtype == torch.int64
    for part in parts.unique():
        assert len(labels[inside & (parts == part)].unique()) == 1
    assert not set(parts[0].unique().tolist()) & set(parts[1].unique().tolist())


@BOTH
def test_fragments_are_connected_in_their_slice_and_always_the_same(cut):
    parts = cut(noisy())
    assert torch.equal(parts, cut(noisy()))
    assert torch.equal(parts.unique(), torch.arange(1, int(parts.max()) + 1))
    assert all(connected((parts == part).long()).max() == 1 for part in parts.unique())


@BOTH
def test_slices_are_cut_by_themselves(cut):
    predicted = noisy()
    alone = torch.cat([renumbered(cut(predicted[:, z : z + 1])) for z in range(2)])
    together = cut(predicted)
    assert all(torch.equal(renumbered(together[z]), alone[z]) for z in range(2))


@BOTH
@pytest.mark.parametrize(("affinity", "numbers"), [(1.0, [1]), (0.0, [0])])
def test_a_slice_that_is_all_inside_is_one_fragment_and_one_that_is_all_boundary_none(cut, affinity, numbers):
    parts = cut(torch.cat([torch.full((3, 1, 40, 48), affinity), discs()[0]], 1))
    assert parts[0].unique().tolist() == numbers
    assert parts[1:].min() == len([n for n in numbers if n]) + 1


def test_one_plateau_is_one_seed():
    predicted = torch.zeros(3, 1, 7, 21)
    predicted[:, :, 2:5, 2:19] = 1  # the farthest pixels are a line
    assert fragments(predicted).unique().tolist() == [1]


def test_fragments_are_those_of_mahotas():
    """The published code finds seeds and grows them with mahotas; ties may go elsewhere."""
    volume = em_synthetic((2, 64, 64))
    predicted = affinities(without_borders(volume.labels[None]))[0] * 0.8 + noisy((2, 64, 64)) * 0.2
    ours = fragments(predicted)
    for z in range(2):
        boundary = 1 - predicted[1:, z].mean(0).numpy()
        seeds, count = mahotas.label(mahotas.regmax(mahotas.distance(boundary < 0.5)))
        theirs = torch.from_numpy(mahotas.cwatershed(boundary, seeds)).long()
        assert count == len(ours[z].unique())
        assert torch.equal(renumbered(theirs), renumbered(ours[z]))


def test_parts_are_numbered_by_their_first_voxels():
    parts = torch.tensor([[[2**40, 0, 7], [7, -1, 2**40]]])
    assert renumbered(parts).tolist() == [[[1, 0, 2], [2, 3, 1]]]
    assert renumbered(torch.tensor([5, 5, 2])).tolist() == [1, 1, 2]
    assert renumbered(torch.zeros(2, 2).long()).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("cut", "package", "extra"),
    [(fragments, "skimage.segmentation", "em"), (smooth_fragments, "elf.segmentation.watershed", "neurons")],
)
def test_a_package_that_is_missing(monkeypatch, cut, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"arzoo\[{extra}\]"):
        cut(noisy())
