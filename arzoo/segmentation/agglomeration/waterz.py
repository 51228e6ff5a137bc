"""Put fragments together by quantiles of their affinities, with the package waterz."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from arzoo.base.errors import require
from arzoo.base.registry import register
from arzoo.segmentation.packages import working

SCORE = "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>"
"""The score of published figures. Before its first merge, a pair has its highest affinity rather than the median, and
from then on the median of those of the pairs that were merged."""
BINS = 256
"""Bins of scores in which pairs wait."""


@register("agglomeration")
def waterz(affinities_3ZYX: Tensor, fragments_ZYX: Tensor, threshold: float = 0.5) -> Tensor:
    """Merge the pair with the highest affinity first, in steps of 1/256, by the median of the merged pairs' highest.

    "Large scale image segmentation with structured loss based deep learning for connectome reconstruction", 2018, with
    the settings of "TokenUnify", 2025.

    Raises:
        MissingPackage: The extra `neurons` is not installed.
        ArzooError: The installed waterz cannot do this.
    """
    package = require("waterz", "neurons")
    affinities = np.ascontiguousarray(affinities_3ZYX.numpy(), np.float32)
    segments = fragments_ZYX.numpy().astype(np.uint64, order="C")  # a copy, which is written over
    with _silence(), working("waterz", "waterz>=0.10"):
        (segments,) = package.agglomerate(
            affinities, [1 - threshold], fragments=segments, scoring_function=SCORE, discretize_queue=BINS
        )
    return torch.from_numpy(segments.astype(np.int64))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what Python and C++ print off the standard output, where results are."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere, contextlib.redirect_stdout(io.StringIO()):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
