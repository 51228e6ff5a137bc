"""Fragments: small parts of slices, each within one cell, that cells are put together from.

Seeds are the places farthest from membranes, and grow in the order of a map of boundaries until they meet: a seeded
watershed of each slice by itself, since slices are thick. "TokenUnify: Scaling Up Autoregressive Pretraining for Neuron
Segmentation", 2025, fine-tuning, has two ways, as its published code.

Affinities are (3, Z, Y, X) in [0, 1], channels along z, y and x, as `models.tokenunify.affinities` defines them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from arzoo.base.errors import require
from arzoo.segmentation.numbers import renumbered
from arzoo.segmentation.packages import working

INSIDE = 0.5
"""Boundary of a pixel below which it is inside of a cell, in `fragments`."""
SMOOTH_INSIDE, SMOOTH_SEEDS = 0.25, 2.0
"""The same in `smooth_fragments`, and the deviation in pixels that distances are smoothed with."""


def fragments(affinities_3ZYX: Tensor) -> Tensor:
    """Cut slices at their boundaries, 1 less the mean affinity along y and x.

    Seeds are the regional maxima of the distance to the nearest pixel that is not inside; a plateau is one seed, and
    neighbors share a side.

    Returns:
        int64 (Z, Y, X), numbered from 1 on through all slices. A slice without any pixel inside is 0.

    Raises:
        MissingPackage: The extra `em` is not installed.
    """
    segmentation, morphology = (require(f"skimage.{part}", "em") for part in ("segmentation", "morphology"))
    measure, ndimage = require("skimage.measure", "em"), require("scipy.ndimage", "em")

    def cut(boundary: np.ndarray) -> np.ndarray:
        distance = ndimage.distance_transform_edt(boundary < INSIDE)
        maxima = morphology.local_maxima(distance, connectivity=1)
        seeds = measure.label(maxima, background=0, connectivity=1)
        grown: np.ndarray = segmentation.watershed(boundary, seeds, connectivity=1)
        return grown

    return _by_slices(1 - affinities_3ZYX[1:].mean(0), INSIDE, cut)


def smooth_fragments(affinities_3ZYX: Tensor) -> Tensor:
    """Cut slices at their boundaries, 1 less the lower affinity along y and x, with smoothed distances.

    The way of "Multicut brings automated neurite segmentation closer to human performance", 2017, by python-elf with
    its other settings: seeds grow in the order of the smoothed boundary and the distance, and fragments below 100
    pixels go to their neighbors, also where a cell is no larger.

    Returns:
        int64 (Z, Y, X), numbered from 1 on through all slices. A slice without any pixel inside is 0.

    Raises:
        MissingPackage: The extra `neurons` is not installed.
        ArzooError: The installed python-elf cannot do this.
    """
    watershed = require("elf.segmentation.watershed", "neurons")

    def cut(boundary: np.ndarray) -> np.ndarray:
        with working("python-elf", "python-elf>=0.9.2"):
            grown: np.ndarray = watershed.distance_transform_watershed(boundary, SMOOTH_INSIDE, SMOOTH_SEEDS)[
                0
            ]
        return grown

    return _by_slices(1 - affinities_3ZYX[1:].amin(0), SMOOTH_INSIDE, cut)


def _by_slices(boundary_ZYX: Tensor, inside: float, cut: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Cut each slice of a map of boundaries by itself, and number the fragments of all slices."""
    parts = torch.zeros(boundary_ZYX.shape, dtype=torch.int64)
    count = 0
    for part, boundary in zip(parts, boundary_ZYX.float().contiguous(), strict=True):
        within = boundary < inside
        if within.all():  # there is nothing to measure a distance to
            part += 1
        elif within.any():
            part += renumbered(torch.from_numpy(cut(boundary.numpy()).astype(np.int64)))
        part[part > 0] += count
        count = max(count, int(part.max()))
    return parts
