"""Scores of segmented volumes: adapted Rand error and variation of information.

"Crowdsourcing the creation of image segmentation algorithms for connectomics", 2015 (Rand F-score), and "Comparing
clusterings - an information based distance", 2007; as in "TokenUnify", 2025, and the challenges SNEMI3D and CREMI.

Both compare which voxels are together, whatever the numbers of cells and segments are. n(c, s) is the number of voxels
of cell c in segment s. Only voxels with a cell count: where the label is 0 or less, nobody knows it. Segment 0 is a
segment like any other, since a segmentation that leaves voxels out has not found their cell.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.volumes import in_words
from arzoo.models.tokenunify.affinities import without_borders


@dataclass(frozen=True)
class SegmentationScores:
    """How a segmentation fits the cells.

    Attributes:
        adapted_rand_error: 1 - F, where F is the harmonic mean of precision and recall; in [0, 1].
        precision: Of pairs of different voxels of one segment, the share that is of one cell; low where segments merge
            cells. 1 where there is no pair.
        recall: Of pairs of different voxels of one cell, the share that is in one segment; low where cells are split.
            1 where there is no pair.
        voi_split: Entropy in bits of the segment of a voxel whose cell is known: 0 where no cell is split.
        voi_merge: Entropy in bits of the cell of a voxel whose segment is known: 0 where no segment merges cells.
        voxels: Voxels that count.
    """

    adapted_rand_error: float
    precision: float
    recall: float
    voi_split: float
    voi_merge: float
    voxels: int

    @property
    def voi(self) -> float:
        """Variation of information in bits, the sum of `voi_split` and `voi_merge`."""
        return self.voi_split + self.voi_merge


def segmentation_scores(segments_ZYX: Tensor, labels_ZYX: Tensor, borders: bool = True) -> SegmentationScores:
    """Compare a segmentation with the cells of a volume.

    Args:
        segments_ZYX: Integer number of the segment of each voxel.
        labels_ZYX: Integer number of its cell; 0 and negative numbers are none.
        borders: Whether voxels at the borders of cells count. Without them labels are those of training, see
            `without_borders`; published figures come from both, and figures of one and of the other differ.

    Raises:
        ArzooError: The shapes differ, or no voxel counts.
    """
    if segments_ZYX.shape != labels_ZYX.shape:
        raise ArzooError(
            f"segments of {in_words(tuple(segments_ZYX.shape))} voxels cannot be compared with labels of "
            f"{in_words(tuple(labels_ZYX.shape))}: cut both out of the same place"
        )
    if not borders:
        labels_ZYX = without_borders(labels_ZYX.long()[None])[0]
    counts = labels_ZYX > 0
    if not counts.any():
        left = "no voxel has a label" if borders else "no voxel with a label is left without borders"
        raise ArzooError(f"{left}, so segments cannot be compared with cells: labels count from 1, 0 is none")
    # Numbers may be as large as they like, their places among all numbers are not.
    _, cells = labels_ZYX[counts].unique(return_inverse=True)
    names, segments = segments_ZYX[counts].unique(return_inverse=True)
    together, both = (cells * len(names) + segments).unique(return_counts=True)
    of_cell, of_segment = cells.bincount(), segments.bincount()
    in_both, in_cells, in_segments = map(_pairs, (both, of_cell, of_segment))
    all_pairs = in_cells + in_segments
    return SegmentationScores(
        adapted_rand_error=1 - 2 * in_both / all_pairs if all_pairs else 0.0,
        precision=in_both / in_segments if in_segments else 1.0,
        recall=in_both / in_cells if in_cells else 1.0,
        voi_split=_entropy(both, of_cell[together // len(names)]),
        voi_merge=_entropy(both, of_segment[together % len(names)]),
        voxels=len(cells),
    )


def _pairs(counts: Tensor) -> int:
    """Ordered pairs of different voxels of the same part."""
    return int((counts * (counts - 1)).sum())


def _entropy(both: Tensor, whole: Tensor) -> float:
    """Mean over voxels of -log2 of the share n(c, s) has in its whole."""
    share = both.double() / both.sum()
    return float((share * (whole.double() / both).log2()).sum())
