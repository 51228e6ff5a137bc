"""Scores of segmentations: values by hand, an independent implementation, and scikit-image."""

import math
import warnings
from dataclasses import astuple
from itertools import combinations

import pytest
import torch
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information

from arzoo.base.errors import ArzooError
from arzoo.metrics.scores.segmentation import segmentation_scores

LABELS = torch.tensor([[[1, 1, 1, 1, 2, 2, 0, 0]]])
CLOSE = {"abs": 1e-12, "rel": 1e-12}


def volumes(seed):
    """Segments and labels that have something to do with each other."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 5, 6), generator=rng)
    return torch.where(torch.rand(labels.shape, generator=rng) < 0.5, labels + 7, labels // 2), labels


def by_pairs(segments, labels):
    """Count all pairs of voxels, and add up entropies voxel by voxel."""
    voxels = [
        (s, c) for s, c in zip(segments.flatten().tolist(), labels.flatten().tolist(), strict=True) if c
    ]
    pairs = list(combinations(voxels, 2))
    both = sum(a == b for a, b in pairs)
    in_segments, in_cells = (sum(a[i] == b[i] for a, b in pairs) for i in (0, 1))
    n = len(voxels)
    split, merge = (
        sum(-math.log2(voxels.count(v) / sum(w[i] == v[i] for w in voxels)) for v in voxels) / n
        for i in (1, 0)
    )
    return 1 - 2 * both / (in_segments + in_cells), both / in_segments, both / in_cells, split, merge


def test_everything_merged_is_the_entropy_of_the_cells():
    scores = segmentation_scores(torch.ones_like(LABELS), LABELS)
    # 6 voxels make 15 pairs, of which 6 and 1 are of one cell.
    assert scores.precision == pytest.approx(7 / 15, **CLOSE)
    assert scores.recall == 1
    assert scores.adapted_rand_error == pytest.approx(1 - 14 / 22, **CLOSE)
    assert scores.voi_split == 0
    entropy = -(4 / 6 * math.log2(4 / 6) + 2 / 6 * math.log2(2 / 6))
    assert scores.voi_merge == pytest.approx(entropy, **CLOSE)
    assert scores.voi == scores.voi_merge
    assert scores.voxels == 6


def test_everything_split():
    scores = segmentation_scores(torch.arange(8).view_as(LABELS), LABELS)
    assert (scores.adapted_rand_error, scores.precision, scores.recall) == (1, 1, 0)
    assert scores.voi_split == pytest.approx(4 / 6 * 2 + 2 / 6 * 1, **CLOSE)
    assert scores.voi_merge == 0


def test_a_perfect_segmentation_whatever_it_says_where_nobody_knows_the_cell():
    segments = torch.tensor([[[9, 9, 9, 9, 0, 0, 9, 5]]])
    scores = segmentation_scores(segments, LABELS)
    assert (scores.adapted_rand_error, scores.precision, scores.recall, scores.voi) == (0, 1, 1, 0)


def test_single_voxels_everywhere_are_perfect():
    labels = torch.arange(1, 7).view(1, 2, 3)
    scores = segmentation_scores(labels, labels)
    assert (scores.adapted_rand_error, scores.precision, scores.recall, scores.voi) == (0, 1, 1, 0)


def test_segment_0_is_a_segment_and_negative_labels_are_none():
    segments = torch.tensor([[[1, 1, 0, 0, 0, 0, 5, 5]]])
    scores = segmentation_scores(segments, torch.where(LABELS == 0, -3, LABELS))
    assert scores == segmentation_scores(torch.where(segments == 0, 8, segments), LABELS)
    assert scores.voi_merge > 0


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_pairs_and_with_scikit_image(seed):
    segments, labels = volumes(seed)
    scores = segmentation_scores(segments, labels)
    assert [
        scores.adapted_rand_error,
        scores.precision,
        scores.recall,
        scores.voi_split,
        scores.voi_merge,
    ] == pytest.approx(by_pairs(segments, labels), **CLOSE)
    theirs = labels.numpy(), segments.numpy()
    split, merge = variation_of_information(*theirs, ignore_labels=(0,))
    assert (scores.voi_split, scores.voi_merge) == pytest.approx((split, merge), **CLOSE)
    assert scores.adapted_rand_error == pytest.approx(adapted_rand_error(*theirs)[0], **CLOSE)


def test_scikit_image_calls_precision_what_its_documentation_calls_recall():
    """Everything in one segment finds all pairs of a cell, and most of its pairs are of two cells."""
    _, precision, recall = adapted_rand_error(LABELS.numpy(), torch.ones_like(LABELS).numpy())
    assert (precision, recall) == (1, pytest.approx(7 / 15))


def test_scikit_image_ignores_labels_of_the_first_volume_alone_and_none_by_itself():
    segments = torch.tensor([[[0, 0, 0, 0, 2, 2, 1, 3]]])
    theirs = LABELS.numpy(), segments.numpy()
    assert variation_of_information(*theirs, ignore_labels=(0,)) == pytest.approx([0, 0])
    assert variation_of_information(*theirs)[0] > 0
    with pytest.raises(AttributeError):  # a table alone, as its documentation offers
        variation_of_information(table=contingency_table(*theirs, normalize=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(adapted_rand_error(LABELS.numpy(), torch.arange(8).view_as(LABELS).numpy())[2])


def test_numbers_of_cells_and_segments_do_not_matter():
    segments, labels = volumes(0)
    far = torch.where(labels > 0, 2**40 - labels, 0)
    # A table as large as the largest number would take 8 TiB.
    scores = segmentation_scores(2**40 + 3 * segments, far)
    assert astuple(scores) == pytest.approx(astuple(segmentation_scores(segments, labels)), **CLOSE)


def test_borders_are_left_out_on_demand():
    labels = torch.ones(1, 6, 8, dtype=torch.int64)
    labels[..., 4:] = 2
    shifted = labels.roll(-1, -1)
    shifted[..., -1] = 2
    assert segmentation_scores(shifted, labels).adapted_rand_error > 0
    inside = segmentation_scores(shifted, labels, borders=False)
    assert inside.adapted_rand_error == 0
    assert inside.voxels == 6 * 6


@pytest.mark.parametrize(
    ("segments", "labels", "borders", "message"),
    [
        (torch.ones(1, 2, 3), torch.ones(1, 3, 2), True, "1 x 2 x 3 voxels .* labels of 1 x 3 x 2"),
        (torch.ones(1, 2, 3), torch.zeros(1, 2, 3), True, "no voxel has a label"),
        (torch.ones(1, 2, 2), torch.tensor([[[1, 2], [1, 2]]]), False, "is left without borders"),
    ],
)
def test_what_cannot_be_compared(segments, labels, borders, message):
    with pytest.raises(ArzooError, match=message):
        segmentation_scores(segments.long(), labels.long(), borders)
