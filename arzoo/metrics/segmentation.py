"""Evaluation of segmentations: a file of segments against labels, or a segmenter on a labeled volume."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.base.paths import expanded
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.provenance import MEASURED, provenance, weights_in
from arzoo.core.volumes import in_words
from arzoo.data.volume import VoxelSource
from arzoo.data.volume_files import read_labels
from arzoo.data.volume_sets import INPUTS, LABELS, SUFFIXES, SYNTHETIC, existing, labelled
from arzoo.metrics.protocol import Figure, Protocol
from arzoo.metrics.record import record, writable
from arzoo.metrics.scores.segmentation import SegmentationScores, segmentation_scores
from arzoo.segmentation.segmenter import Segmenter
from arzoo.segmentation.segments import METHOD, THRESHOLD, segments


def evaluate_segmentation(samples: str, reference: str | None) -> dict[str, Any]:
    """Score segments.

    Args:
        samples: A file of segments, or a segmenter.
        reference: For a file, the file of its labels. For a segmenter, a file NAME_inputs.* with NAME_labels.* beside
            it, or `em_synthetic`, the default: the volume that no training sees.

    Returns:
        Figures with their protocol, as `arzoo evaluate` shows them.

    Raises:
        UsageError: A file of segments has no labels to be compared with.
        ArzooError: A file or checkpoint cannot be read, or shapes differ.
    """
    path = Path(expanded(samples))
    if path.name.lower().endswith(SUFFIXES) and path.exists():
        if reference is None:
            raise UsageError("segments are compared with labels: give their file with --reference")
        return _document(samples, read_labels(path), read_labels(existing(reference)), reference, "")
    segmenter = Segmenter.load(samples)
    source, labels = _labelled(reference or SYNTHETIC)
    with progress(f"predicting affinities of {source.name}", "windows") as report:
        affinities = segmenter.affinities(source, report=report)
    how = f"{METHOD} at {THRESHOLD:g}, windows of {in_words(segmenter.window)}"
    document = _document(samples, segments(affinities), labels, source.name, how)
    checkpoint = open_checkpoint(samples, "segmenter")
    document["weights"] = segmenter.weights[:12]
    document[MEASURED] = provenance(weights_in(checkpoint.index), {})
    if not writable(samples, checkpoint):
        record(checkpoint, document)
        document["written"] = [str(checkpoint.folder / "metrics.json")]
    return document


def _labelled(reference: str) -> tuple[VoxelSource, Tensor]:
    """A volume and its labels."""
    source, labels = labelled(reference)
    if labels is None:
        raise UsageError(
            f"a segmenter is scored on a labeled volume: give {SYNTHETIC}, or a file NAME{INPUTS}.h5 with "
            f"NAME{LABELS}.h5 beside it, got {reference}"
        )
    return source, labels


def _document(samples: str, found: Tensor, labels: Tensor, reference: str, how: str) -> dict[str, Any]:
    scores = segmentation_scores(found, labels)
    digest = hashlib.sha256(labels.contiguous().numpy().tobytes()).hexdigest()
    protocol = Protocol(
        net="none", net_sha256="", resize="none", reference=reference, reference_sha256=digest, n=1, n_reference=1,
        size=in_words(tuple(labels.shape)), seeds="none", labels="as they are, 0 is ignored",
    )  # fmt: skip
    return {
        "subject": samples,
        "figures": {name: figure.to_dict() for name, figure in _figures(scores, how).items()},
        "protocol": protocol.to_dict(), "comparable": protocol.key, "left_out": {}, "warnings": [], "written": [],
    }  # fmt: skip


def _figures(scores: SegmentationScores, how: str) -> dict[str, Figure]:
    """Figures of scores; the definition says how segments were made, too."""
    made = f"; {how}" if how else ""
    why = "one volume"
    lower = {
        "voi": (scores.voi, "bits, split + merge"), "voi_split": (scores.voi_split, "bits, H(segment | cell)"),
        "voi_merge": (scores.voi_merge, "bits, H(cell | segment)"),
        "adapted_rand_error": (scores.adapted_rand_error, "1 - F of pairs of voxels"),
    }  # fmt: skip
    higher = {"rand_precision": scores.precision, "rand_recall": scores.recall}
    figures = {
        name: Figure(value, better="lower", definition=text + made, no_error=why)
        for name, (value, text) in lower.items()
    }
    return figures | {
        name: Figure(value, better="higher", definition="of pairs of voxels" + made, no_error=why)
        for name, value in higher.items()
    }
