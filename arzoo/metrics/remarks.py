"""Warnings for readers of a score: too few pictures, copies, unbalanced classes, lossy files."""

from __future__ import annotations

from collections import Counter

from arzoo.data.pictures import Pictures
from arzoo.metrics.bank import PictureFeatures
from arzoo.metrics.reference import Reference
from arzoo.models.vision.features import FeatureNet

FEW = 10_000
"""Frechet distances of fewer pictures depend on n so strongly that only equal n compare."""
_PUBLISHED = {"pictures": "50,000", "clips": "2,048 to 50,000"}
_LOSSLESS = {"pictures": "PNG or npz", "clips": "lossless WebP or numbered PNG frames"}
_UNEVEN = 2
"""Classes are unbalanced if one has more than this many times the pictures of another."""


def warnings_of(
    pictures: Pictures, samples: PictureFeatures, reference: Reference, net: FeatureNet
) -> list[str]:
    """Return warnings about the scored pictures, the most serious first.

    Args:
        pictures: The scored set.
        samples: Features of the scored set.
        reference: The reference.
        net: The feature network.
    """
    noun = "clips" if net.of_clips else "pictures"
    remarks = [*pictures.notes, *reference.notes, *_copies(samples, reference.measured, noun)]
    remarks += _dark("samples", samples) + _dark(f"reference {noun}", reference.measured)
    remarks += [
        f"{loss}, which moves distances by more than most methods differ; write {_LOSSLESS[noun]}"
        for loss in (pictures.loss(noun), reference.loss)
        if loss
    ]
    if other := [
        name for name, value in pictures.timing.items() if reference.timing.get(name, value) != value
    ]:
        theirs = ", ".join(f"{name} {reference.timing[name]} and {pictures.timing[name]}" for name in other)
        remarks.append(f"the clips of the reference and the samples were not taken alike: {theirs}")
    if pictures.labels and pictures.chosen.startswith("in the file"):
        remarks += _balance(pictures.labels)
    if 0 < len(pictures) < FEW:
        rank = f", fewer than the {net.width} features" if len(pictures) <= net.width else ""
        remarks.append(
            f"n = {len(pictures)} is small{rank}: Frechet distances are too high by an amount that depends on n; "
            f"compare only with the same n, or read the kernel distance. Published figures take {_PUBLISHED[noun]}"
        )
    return list(dict.fromkeys(remarks))  # samples and reference may be one folder


def _copies(samples: PictureFeatures, reference: PictureFeatures, noun: str) -> list[str]:
    remarks = []
    twice = sum(count - 1 for count in samples.copies.values())
    if twice:
        remarks.append(
            f"{twice} of {samples.count} {noun} are exact copies of others; did several processes draw with the same "
            "seeds?"
        )
    same = sum(count for digest, count in samples.copies.items() if digest in reference.copies)
    if same:
        remarks.append(f"{same} of {samples.count} {noun} are exact copies of reference {noun}")
    return remarks


def _dark(what: str, measured: PictureFeatures) -> list[str]:
    """Warn of floats from 0 to 1 rounded to integers: such pictures are black, yet give plausible scores."""
    if measured.brightest is None or measured.brightest > 1:
        return []
    return [f"no value of the {what} is above 1 of 255: were they scaled to 0..1 before they were rounded?"]


def _balance(labels: list[str]) -> list[str]:
    counts = Counter(labels).most_common()
    (most, many), (least, few) = counts[0], counts[-1]
    if many <= _UNEVEN * few:
        return []
    return [
        f"classes are not balanced: {many} pictures of {most!r}, {few} of {least!r}; published figures take equally "
        "many of every class, or draw classes as often as the data has them"
    ]
