"""From affinities to segments, each of which should be one cell."""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import lookup
from arzoo.segmentation.fragments import fragments, smooth_fragments
from arzoo.segmentation.numbers import renumbered

METHOD, THRESHOLD = "mean_affinity", 0.5
"""The agglomeration that needs no other package, and the published threshold."""
_FRAGMENTS = {"multicut": smooth_fragments}
"""Agglomerations that were published with other fragments than `fragments`."""


def segments(affinities_3ZYX: Tensor, method: str = METHOD, threshold: float = THRESHOLD) -> Tensor:
    """Cut a volume into fragments, and put these together to segments.

    A voxel is background, 0, where its slice has no pixel inside of any cell (see `fragments`). All others belong to a
    segment, those of membranes too.

    Args:
        affinities_3ZYX: Affinity of each voxel and the one before it along z, y and x, in [0, 1].
        method: Name of an agglomeration, see `arzoo models --kind agglomeration`.
        threshold: Affinity, in [0, 1], above which fragments are put together. Small ones merge more.

    Returns:
        int64 (Z, Y, X), numbered from 1 on in the order of first voxels.

    Raises:
        UnknownName: There is no such agglomeration.
        MissingPackage: An extra is not installed, `em` for all methods, `neurons` for published ones.
        ArzooError: Affinities or the threshold are out of range.
    """
    lookup("agglomeration", method)  # before the work is done
    affinities_3ZYX = _checked(affinities_3ZYX, threshold)
    cut = _FRAGMENTS.get(method, fragments)
    return agglomerate(affinities_3ZYX, cut(affinities_3ZYX), method, threshold)


def agglomerate(
    affinities_3ZYX: Tensor, fragments_ZYX: Tensor, method: str = METHOD, threshold: float = THRESHOLD
) -> Tensor:
    """Put fragments together to segments.

    The result depends on the partition into fragments, not on their numbers.

    Args:
        affinities_3ZYX: As in `segments`.
        fragments_ZYX: int64 number of the fragment of each voxel, 0 for none.
        method: As in `segments`.
        threshold: As in `segments`.

    Returns:
        int64 (Z, Y, X), numbered from 1 on in the order of first voxels; 0 stays 0.

    Raises:
        UnknownName: There is no such agglomeration.
        MissingPackage: An extra is not installed.
        ArzooError: Affinities or the threshold are out of range, or the shapes do not fit.
    """
    merge = lookup("agglomeration", method)
    affinities_3ZYX = _checked(affinities_3ZYX, threshold)
    if fragments_ZYX.shape != affinities_3ZYX.shape[1:]:
        raise ArzooError(
            f"fragments {tuple(fragments_ZYX.shape)} do not fit affinities {tuple(affinities_3ZYX.shape)}: both are of "
            "the same Z x Y x X voxels"
        )
    merged: Tensor = merge(affinities_3ZYX, renumbered(fragments_ZYX), threshold)
    return renumbered(merged)


def _checked(affinities_3ZYX: Tensor, threshold: float) -> Tensor:
    """Return affinities as float32; refuse them and thresholds out of range."""
    shape = tuple(affinities_3ZYX.shape)
    if len(shape) != 4 or shape[0] != 3 or 0 in shape:
        raise ArzooError(f"affinities are (3, Z, Y, X), channels along z, y and x, got {shape}")
    least, most = float(affinities_3ZYX.min()), float(affinities_3ZYX.max())
    if not (least >= 0 and most <= 1):  # also where they are no numbers
        raise ArzooError(
            f"affinities are in [0, 1], got {least:g} to {most:g}: apply a sigmoid to what a network returns"
        )
    if not 0 <= threshold <= 1:
        raise ArzooError(f"a threshold of affinities is in [0, 1], got {threshold:g}")
    return affinities_3ZYX.float()
