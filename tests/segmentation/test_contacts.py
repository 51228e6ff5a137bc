"""Pairs of fragments that touch, and numbers of parts, whatever the volume is cut into while they are counted."""

import itertools

import pytest
import torch

from arzoo.segmentation import contacts as module
from arzoo.segmentation import numbers
from arzoo.segmentation.contacts import contacts
from arzoo.segmentation.numbers import renumbered


def counted(affinities, fragments):
    """All faces, one by one."""
    faces: dict[tuple[int, int], list[float]] = {}
    for place in itertools.product(*map(range, fragments.shape)):
        for axis in range(3):
            before = tuple(at - (i == axis) for i, at in enumerate(place))
            if min(before) < 0:
                continue
            one, other = int(fragments[place]), int(fragments[before])
            if one != other and min(one, other) > 0:
                faces.setdefault((min(one, other), max(one, other)), []).append(
                    float(affinities[(axis, *place)])
                )
    return faces


@pytest.mark.parametrize("slices", [1, 2, 3, 8])
def test_every_face_counts_once_in_slabs_of_any_depth(monkeypatch, slices):
    monkeypatch.setattr(module, "SLICES", slices)
    torch.manual_seed(0)
    fragments, affinities = torch.randint(0, 6, (7, 4, 5)), torch.rand(3, 7, 4, 5)
    found, expected = contacts(affinities, fragments), counted(affinities, fragments)
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(expected)
    for pair, mean, faces in zip(
        found.pairs.tolist(), found.means.tolist(), found.faces.tolist(), strict=True
    ):
        values = expected[tuple(pair)]
        assert (faces, mean) == (len(values), pytest.approx(sum(values) / len(values)))


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([7, 0, 3, 7, 9, 0], [1, 0, 2, 1, 3, 0]),
        ([5, 5, 2], [1, 1, 2]),
        ([2**60, 0, 4, 2**60], [1, 0, 2, 1]),
        ([-3, 2**40, 0, -3], [1, 2, 0, 1]),
        ([0, 0], [0, 0]),
    ],
)
def test_parts_are_numbered_by_their_first_voxels(monkeypatch, chunk, parts, expected):
    monkeypatch.setattr(numbers, "CHUNK", chunk)
    assert renumbered(torch.tensor(parts)).tolist() == expected
