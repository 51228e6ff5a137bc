"""Registered metrics of two sets of pictures. Every one is a function of a `Comparison` and returns figures by name."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.metrics.bootstrap import error_of_mean, standard_error
from arzoo.metrics.comparison import Comparison, Unavailable
from arzoo.metrics.frechet import FrechetFrom
from arzoo.metrics.inception_score import SPLITS, inception_score, inception_score_error
from arzoo.metrics.kernel import SIZE, SUBSETS, kernel_distance, kernel_distance_error
from arzoo.metrics.neighbors import balls, nearest_distance, radii
from arzoo.metrics.protocol import Figure
from arzoo.registry import register

MOST_NEIGHBORS = 10_000
"""Pictures of a side whose neighbours are searched, as in published figures."""


@register("metric")
def fd(comparison: Comparison) -> dict[str, Figure]:
    """Frechet distance; called FID only with the network of that convention."""
    samples, distance = comparison.samples, FrechetFrom(comparison.reference.statistics)
    error = None
    if samples.features is not None:
        score = distance.of_resamples(samples.features)
        error = standard_error(score, len(samples.features), comparison.replicates)
    value = distance(samples.statistics)
    return {comparison.name("fd"): Figure(value, error, "lower", "covariance over n - 1, float64")}


@register("metric")
def sfd(comparison: Comparison) -> dict[str, Figure]:
    """Frechet distance in spatial features, the sFID of ADM; only some networks have them."""
    one, other = comparison.samples.spatial, comparison.reference.spatial
    if one is None or other is None:
        raise Unavailable(
            f"sfd needs spatial features of both sides; {comparison.net.name} or the reference has none"
        )
    value = FrechetFrom(other)(one)
    return {comparison.name("sfd"): Figure(value, None, "lower", "covariance over n - 1, float64")}


@register("metric")
def kid(comparison: Comparison) -> dict[str, Figure]:
    """Kernel distance (squared MMD), unbiased: the one to read at small n."""
    samples, reference = comparison.features("kid")
    size = min(SIZE, len(samples), len(reference))
    definition = f"kernel (x.y/D + 1)^3, unbiased, {SUBSETS} subsets of {size}"
    value = kernel_distance(samples, reference)
    error = kernel_distance_error(samples, reference, comparison.replicates)
    return {comparison.name("kid"): Figure(value, error, "lower", definition)}


@register("metric", "is")
def class_score(comparison: Comparison) -> dict[str, Figure]:
    """Inception score: sure of every picture, undecided over all of them."""
    logits = comparison.samples.logits
    if logits is None:
        raise Unavailable(
            f"the Inception score needs classes of every sample; {comparison.net.name} has none here"
        )
    definition = f"{min(SPLITS, len(logits))} splits, shuffled, {logits.shape[1]} classes"
    error = inception_score_error(logits, comparison.replicates)
    return {comparison.name("is"): Figure(inception_score(logits), error, "higher", definition)}


@register("metric")
def precision_recall(comparison: Comparison) -> dict[str, Figure]:
    """Precision and recall with 3 neighbours and closed balls, as ADM's; references are thinned to 10,000."""
    samples, reference = comparison.features("precision_recall")
    reference = _thinned(reference)
    definition = f"3rd neighbour, closed balls, {len(samples)} samples, {len(reference)} real"
    real, generated = radii(reference, 3), radii(samples, 3)
    precision = balls(samples, reference, real, closed=True).inside > 0
    recall = balls(reference, samples, generated, closed=True).inside > 0
    return {
        comparison.name("precision_k3"): _share(precision, comparison, definition),
        comparison.name("recall_k3"): _share(recall, comparison, definition),
    }


@register("metric")
def density_coverage(comparison: Comparison) -> dict[str, Figure]:
    """Precision, recall, density and coverage with 5 neighbours and open balls, of at most 10,000 a side."""
    samples, reference = (_thinned(x) for x in comparison.features("density_coverage"))
    definition = f"5th neighbour, open balls, {len(samples)} samples, {len(reference)} real"
    real, generated = radii(reference, 5), radii(samples, 5)
    held = balls(samples, reference, real, closed=False)
    recall = balls(reference, samples, generated, closed=False).inside > 0
    return {
        comparison.name("precision_k5"): _share(held.inside > 0, comparison, definition),
        comparison.name("recall_k5"): _share(recall, comparison, definition),
        comparison.name("density_k5"): _share(held.inside.double() / 5, comparison, definition),
        comparison.name("coverage_k5"): _share(held.hit, comparison, definition),
    }


@register("metric")
def nearest(comparison: Comparison) -> dict[str, Figure]:
    """Median cosine distance of a sample to the nearest reference picture: near 0, the samples are copies."""
    samples, reference = comparison.features("nearest")
    found = nearest_distance(samples, reference)

    def median(times: Tensor) -> float:
        return float(found.repeat_interleave(times).median())

    error = standard_error(median, len(found), comparison.replicates)
    definition = "median over samples of the cosine distance"
    return {comparison.name("nearest"): Figure(float(found.median()), error, None, definition)}


def _share(values: Tensor, comparison: Comparison, definition: str) -> Figure:
    error = error_of_mean(values, comparison.replicates)
    return Figure(float(values.double().mean()), error, "higher", definition)


def _thinned(features: Tensor) -> Tensor:
    """At most `MOST_NEIGHBORS` of the pictures, drawn with a fixed seed."""
    if len(features) <= MOST_NEIGHBORS:
        return features
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:MOST_NEIGHBORS].sort().values]
