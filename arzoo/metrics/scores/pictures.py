"""Registered metrics of two sets of pictures. Each is a function of a `Comparison` that returns figures by name."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.registry import register
from arzoo.metrics.comparison import MOST_NEIGHBORS, Comparison, Unavailable, no_fvd
from arzoo.metrics.protocol import Figure
from arzoo.metrics.scores.bootstrap import error_of_mean, standard_error
from arzoo.metrics.scores.frechet import FrechetFrom
from arzoo.metrics.scores.inception_score import inception_score, inception_score_error, splits_of
from arzoo.metrics.scores.kernel import kernel_distance, kernel_distance_error, subsets_in_words
from arzoo.metrics.scores.neighbors import balls, nearest_distance, radii


@register("metric")
def fd(comparison: Comparison) -> dict[str, Figure]:
    """Frechet distance; called FID, or FVD for clips, only with the network of that convention."""
    samples, rules = comparison.samples, comparison.rules
    distance = FrechetFrom(comparison.reference.statistics, rules.ddof)
    error = None
    if samples.features is not None:
        score = distance.of_resamples(samples.features)
        error = standard_error(score, len(samples.features), comparison.replicates)
    value = distance(samples.statistics)
    return {comparison.name("fd"): Figure(value, error, "lower", f"covariance over {rules.divisor}, float64")}


@register("metric")
def fvd(comparison: Comparison) -> dict[str, Figure]:
    """Frechet video distance: `fd` of clips in the published I3D network, refused with any other."""
    if not (comparison.net.of_clips and comparison.net.standard):
        raise Unavailable(no_fvd(comparison.net))
    return fd(comparison)


@register("metric")
def sfd(comparison: Comparison) -> dict[str, Figure]:
    """Frechet distance in spatial features, the sFID of ADM; only some networks have them."""
    one, other = comparison.samples.spatial, comparison.reference.spatial
    if one is None or other is None:
        raise Unavailable(
            f"sfd needs spatial features of both sides; {comparison.net.name} or the reference has none"
        )
    distance, error = FrechetFrom(other, comparison.rules.ddof), None
    if comparison.samples.places is not None:
        score = distance.of_resamples(comparison.samples.places)
        error = standard_error(score, len(comparison.samples.places), comparison.replicates)
    return {
        comparison.name("sfd"): Figure(
            distance(one), error, "lower", f"covariance over {comparison.rules.divisor}, float64"
        )
    }


@register("metric")
def kid(comparison: Comparison) -> dict[str, Figure]:
    """Kernel distance (squared MMD), unbiased, so meaningful at small n."""
    samples, reference = comparison.features("kid")
    definition = f"kernel (x.y/D + 1)^3, unbiased, {subsets_in_words(len(samples), len(reference))}"
    value = kernel_distance(samples, reference)
    error = kernel_distance_error(samples, reference, comparison.replicates)
    return {comparison.name("kid"): Figure(value, error, "lower", definition)}


@register("metric", "is")
def class_score(comparison: Comparison) -> dict[str, Figure]:
    """Inception score: high for confident and diverse predictions."""
    logits = comparison.samples.logits
    if logits is None:
        raise Unavailable(
            f"the Inception score needs classes of every sample; {comparison.net.name} has none here"
        )
    chunk, n = comparison.rules.chunk, len(logits)
    parts = (
        f"{-(-n // chunk)} chunks of {min(chunk, n)}, in order"
        if chunk
        else f"{splits_of(n)} splits, shuffled"
    )
    error = inception_score_error(logits, comparison.replicates)
    value = inception_score(logits, chunk=chunk)
    return {comparison.name("is"): Figure(value, error, "higher", f"{parts}, {logits.shape[1]} classes")}


@register("metric")
def precision_recall(comparison: Comparison) -> dict[str, Figure]:
    """Precision and recall with 3 neighbors and closed balls, as ADM's; references are thinned to 10,000."""
    samples, reference = _with_neighbors(comparison, "precision_recall", 3)
    reference = _thinned(reference, comparison.rules.most_real)
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
    """Precision, recall, density and coverage with 5 neighbors and open balls, of at most 10,000 pictures per side."""
    samples, reference = _with_neighbors(comparison, "density_coverage", 5)
    smaller = min(len(samples), len(reference), MOST_NEIGHBORS)
    most = smaller if comparison.rules.equal_sides else MOST_NEIGHBORS
    samples, reference = _thinned(samples, most), _thinned(reference, most)
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
    distances = nearest_distance(samples, reference)

    def median(times: Tensor) -> float:
        return float(distances.repeat_interleave(times).median())

    error = standard_error(median, len(distances), comparison.replicates)
    definition = "median over samples of the cosine distance"
    return {comparison.name("nearest"): Figure(float(distances.median()), error, None, definition)}


def _share(values: Tensor, comparison: Comparison, definition: str) -> Figure:
    error = error_of_mean(values, comparison.replicates)
    return Figure(float(values.double().mean()), error, "higher", definition)


def _with_neighbors(comparison: Comparison, what: str, k: int) -> tuple[Tensor, Tensor]:
    """Return the features of both sides, each with enough pictures for k neighbors.

    Raises:
        Unavailable: A side is too small, or only its statistics are known.
    """
    sides = comparison.features(what)
    if min(map(len, sides)) <= k:
        raise Unavailable(
            f"{what} looks for the {k} nearest neighbors of each picture: it takes at least {k + 1} pictures per "
            f"side, there are {len(sides[0])} samples and {len(sides[1])} reference pictures"
        )
    return sides


def _thinned(features: Tensor, most: int) -> Tensor:
    """Return the features of at most `most` pictures, drawn with a fixed seed; 0 keeps all."""
    if not most or len(features) <= most:
        return features
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:most].sort().values]
