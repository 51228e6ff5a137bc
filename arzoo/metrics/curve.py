"""Curves of reconstructions over the number of tokens, for tokenizers of ordered and adaptive tokens."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arzoo.base.console import progress
from arzoo.core.contracts import Tokenizer
from arzoo.data.pictures import Pictures
from arzoo.metrics.evaluation import Options, evaluate_tokenizer, reference_of
from arzoo.metrics.protocol import Figure
from arzoo.metrics.rate import Rate
from arzoo.metrics.reference import Reference
from arzoo.models.vision.features import FeatureNet

METRICS = ("tokens", "fd", "psnr", "ssim", "perceptual")
"""Metrics of a curve; the others count codes, which says nothing at few tokens."""


@dataclass(frozen=True)
class Point:
    """Figures of reconstructions at one rate, of which `tokens` is the mean number of tokens.

    Attributes:
        rate: The rate.
        figures: Figures by name.
    """

    rate: Rate
    figures: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """Return the point as plain data."""
        return self.rate.to_dict() | {
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()}
        }


def measure_curve(
    tokenizer: Tokenizer,
    originals: Pictures,
    net: FeatureNet,
    rates: Sequence[Rate],
    options: Options | None = None,
    reference: Reference | None = None,
    left_out: Container[str] = (),
) -> list[Point]:
    """Measure reconstructions at several rates, all by one protocol.

    Args:
        tokenizer: In evaluation mode.
        originals: Pictures of its size.
        net: The network of the reconstruction distance.
        rates: One per point.
        options: Options of the measurement; of its metrics, those in `METRICS` are taken.
        reference: The originals, if they are measured already (`arzoo.metrics.evaluation.reference_of`).
        left_out: Metrics that are not available.
    """
    options = options or Options()
    reference = reference or reference_of(options.scored(originals), net, options.batch)
    metrics = [name for name in METRICS if name in (options.metrics or METRICS) and name not in left_out]
    options = replace(options, metrics=tuple(dict.fromkeys(["tokens", *metrics])), seen=None)
    points = []
    for number, rate in enumerate(rates, 1):
        with progress(f"curve, point {number} of {len(rates)}", "pictures") as report:
            of_point = replace(options, progress=report)
            evaluation = evaluate_tokenizer(tokenizer, originals, net, of_point, rate, reference)
        points.append(Point(rate, evaluation.figures))
    return points
