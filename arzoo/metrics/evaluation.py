"""One evaluation: pictures or clips against a reference, or a tokenizer against originals, with protocol and warnings.

`arzoo evaluate` and `scripts/dev/results.py` both call these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from arzoo.base import registry
from arzoo.core.contracts import Tokenizer
from arzoo.data.pictures import UNKNOWN, Pictures
from arzoo.data.scored_clips import Frames
from arzoo.metrics.bank import PictureFeatures, measure
from arzoo.metrics.comparison import (
    OURS,
    REPLICATES,
    Comparison,
    Pairs,
    Unavailable,
    figures,
    without_pairs,
    without_pictures,
)
from arzoo.metrics.continued import ContinuedClips
from arzoo.metrics.presets import Preset
from arzoo.metrics.protocol import Figure, Protocol
from arzoo.metrics.rate import OWN, Rate
from arzoo.metrics.reference import Reference
from arzoo.metrics.remarks import warnings_of
from arzoo.metrics.scores.reconstruction import PERCEPTUAL_SIDE, ReconstructionBank, by_frame, reconstruct
from arzoo.models.vision.features import FeatureNet
from arzoo.tokenizers.common.perceptual import PerceptualDistance

SET_METRICS = ("fd", "kid", "is", "precision_recall", "density_coverage")
PAIR_METRICS = ("fd", "psnr", "ssim", "perceptual", "codebook", "tokens")
PREDICTED = ("fd", "kid", "psnr", "ssim", "perceptual")
"""Metrics of predicted frames."""
OF_CLASSES = "is"
"""The metric that needs a network with classes, which those of clips have not."""
OF_PICTURES = frozenset({"kid", "precision_recall", "density_coverage", "nearest"})
"""Metrics that compare single pictures, for which statistics of a reference do not suffice."""
OF_PAIRS = frozenset(PAIR_METRICS) - frozenset(SET_METRICS)
"""Metrics that compare reconstructions with their originals."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        figures: Figures by name.
        protocol: Protocol of all figures.
        warnings: Warnings for readers of the figures.
        left_out: Metrics that were not available, and why.
        samples: Features of the scored pictures.
        by_frame: Mean scores of every frame of reconstructed clips, by name.
        resized: How pictures were resized before the network saw them, in a line.
    """

    figures: dict[str, Figure]
    protocol: Protocol
    warnings: list[str]
    left_out: dict[str, str]
    samples: PictureFeatures
    by_frame: dict[str, list[float]] = field(default_factory=dict)
    resized: str = ""

    def document(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            **({"by_frame": self.by_frame} if self.by_frame else {}),
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "protocol": self.protocol.to_dict(),
            "comparable": self.protocol.key,
            "resized": self.resized,
            "warnings": self.warnings,
            "left_out": self.left_out,
        }


@dataclass(frozen=True)
class Options:
    """Options of a measurement.

    Attributes:
        metrics: Registered names; if empty, those that fit.
        batch: Pictures per batch, without influence on the figures.
        replicates: Resamples of the bootstrap.
        preset: Published tool to follow.
        part: Frames of clips that are scored, None for pictures.
        progress: Called with (pictures done, pictures to do).
        seen: Called with (images, rows) of each batch of samples.
    """

    metrics: Sequence[str] = ()
    batch: int = 32
    replicates: int = REPLICATES
    preset: Preset | None = None
    part: Frames | None = None
    progress: Callable[[int, int], None] | None = None
    seen: Callable[[Tensor, Tensor], None] | None = None

    def check(self, pairs: bool = True, statistics: bool = False) -> None:
        """Refuse a metric that does not exist or is not available, before anything is measured.

        Args:
            pairs: Whether reconstructions with their originals are measured.
            statistics: Whether only statistics of the reference are known.

        Raises:
            UnknownName: A metric does not exist.
            Unavailable: A metric is not available; the message says what it needs.
        """
        for name in self.metrics:
            registry.lookup("metric", name)
        if self.preset:
            self.preset.check(self.metrics, OF_PAIRS)
        for name in () if pairs else sorted(OF_PAIRS.intersection(self.metrics)):
            raise Unavailable(without_pairs(name))
        for name in sorted({*self.metrics} & OF_PICTURES) if statistics else ():
            raise Unavailable(without_pictures(name, "reference"))

    def scored(self, pictures: Pictures) -> Pictures:
        """Return a set with those frames of its clips that are scored."""
        return self.part.of(pictures) if self.part else pictures

    def comparison(
        self,
        net: FeatureNet,
        samples: PictureFeatures,
        reference: PictureFeatures,
        pairs: Pairs | None = None,
    ) -> Comparison:
        """Return the input of the metrics."""
        rules = self.preset.rules if self.preset else OURS
        return Comparison(net, samples, reference, self.replicates, pairs, rules)


def evaluate_pictures(
    pictures: Pictures, reference: Reference, net: FeatureNet, options: Options | None = None
) -> Evaluation:
    """Score a set of pictures, which may be samples of a generator (`arzoo.metrics.samples`).

    Args:
        pictures: The samples.
        reference: The reference, measured with the same network.
        net: The network.
        options: Options of the measurement.

    Raises:
        UnknownName: There is no such metric.
        Unavailable: A metric named in the options is not available.
    """
    options = options or Options()
    options.check()
    pairs = None
    if isinstance(pictures, ContinuedClips):
        perceptual = "perceptual" in (options.metrics or PREDICTED) and min(pictures.size) >= PERCEPTUAL_SIDE
        pictures.bank = ReconstructionBank(0, PerceptualDistance() if perceptual else None)
    samples = measure(options.scored(pictures), net, options.batch, options.progress, options.seen)
    if isinstance(pictures, ContinuedClips) and pictures.bank is not None:
        pairs = replace(pictures.bank.pairs(), predicted=True)
    comparison = options.comparison(net, samples, reference.measured, pairs)
    return _finish(comparison, pictures, reference, options)


def evaluate_statistics(
    samples: Reference, reference: Reference, net: FeatureNet, options: Options | None = None
) -> Evaluation:
    """Score a set whose statistics are stored.

    Args:
        samples: The scored set, read like a reference.
        reference: The reference.
        net: The network that measured both.
        options: Options of the measurement.

    Raises:
        UnknownName: There is no such metric.
        Unavailable: A metric named in the options is not available.
    """
    options = options or Options()
    options.check()
    pictures = Pictures(name=samples.name, count=samples.measured.count or 0, size=())
    comparison = options.comparison(net, samples.measured, reference.measured)
    return _finish(comparison, pictures, reference, options)


def evaluate_tokenizer(
    tokenizer: Tokenizer,
    originals: Pictures,
    net: FeatureNet,
    options: Options | None = None,
    rate: Rate = OWN,
    reference: Reference | None = None,
) -> Evaluation:
    """Score reconstructions of pictures against the pictures themselves.

    Args:
        tokenizer: In evaluation mode.
        originals: Pictures of its size.
        net: The network of the reconstruction distance.
        options: Options of the measurement.
        rate: How many tokens a picture may have.
        reference: The originals, if they are measured already (`reference_of`).

    Raises:
        UnknownName: There is no such metric.
        Unavailable: A metric named in the options is not available.
    """
    options = options or Options()
    options.check()
    metrics = options.metrics or PAIR_METRICS
    reference = reference or reference_of(options.scored(originals), net, options.batch)
    perceptual = "perceptual" in metrics and min(originals.size) >= PERCEPTUAL_SIDE
    bank = ReconstructionBank(
        tokenizer.spec.vocab, PerceptualDistance() if perceptual else None, tokenizer.spec.prefix_ok
    )
    rebuilt = RebuiltPictures(tokenizer, originals, bank, rate)
    samples = measure(options.scored(rebuilt), net, options.batch, options.progress, options.seen)
    comparison = options.comparison(net, samples, reference.measured, bank.pairs())
    return _finish(comparison, rebuilt, reference, options)


def reference_of(originals: Pictures, net: FeatureNet, batch: int) -> Reference:
    """Measure originals, with which reconstructions are compared."""
    loss, notes = originals.loss(f"reference {originals.noun}"), tuple(originals.notes)
    measured = measure(originals, net, batch)
    return Reference(originals.name, measured, loss, notes, originals.timing, originals.resizing)


AT_ONCE = 64
"""Most frames that are reconstructed at once, unless a clip has more."""


class RebuiltPictures(Pictures):
    """Reconstructions of pictures or clips; reading them fills a bank with the scores of pairs.

    Args:
        tokenizer: In evaluation mode.
        originals: Pictures of its size.
        bank: The bank to fill, or None.
        rate: How many tokens a picture may have.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        originals: Pictures,
        bank: ReconstructionBank | None = None,
        rate: Rate = OWN,
    ) -> None:
        super().__init__(
            name=f"reconstructions of {originals.name}",
            count=len(originals),
            size=originals.size,
            frames=originals.frames,
        )
        self.tokenizer, self.originals, self.bank, self.rate = tokenizer, originals, bank, rate
        self.labels, self.chosen = originals.labels, "those of the originals"
        self.resizing = originals.resizing
        self.seeds = "none: reconstructions"

    def read(self, rows: Sequence[int]) -> Tensor:
        """Reconstruct pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8."""
        images = self.originals.read(rows)
        # A batch of clips is as many pictures as it has frames.
        parts = images.split(max(AT_ONCE // self.frames, 1))
        made = [reconstruct(self.tokenizer, part, self.rate) for part in parts]
        values, present, rebuilt = (torch.cat(each) for each in zip(*made, strict=True))
        if self.bank is not None:
            self.bank.update(images, rebuilt, values, present, torch.as_tensor(rows))
        return rebuilt


def protocol_of(
    pictures: Pictures,
    reference: Reference,
    net: FeatureNet,
    preset: Preset | None = None,
    part: Frames | None = None,
) -> Protocol:
    """Return the protocol of an evaluation."""
    of_clips = {"frames": part.words, **reference.timing, **pictures.timing} if part else {}
    return Protocol(
        net=net.name,
        net_sha256=net.sha256,
        resize=net.resize,
        reference=reference.name,
        reference_sha256=reference.measured.sha256,
        n=len(pictures) or None,
        n_reference=reference.measured.count,
        size=f"{pictures.size[0]} x {pictures.size[1]}" if pictures.size else UNKNOWN,
        seeds=pictures.seeds,
        labels=pictures.chosen,
        format=pictures.format,
        **(preset.parameters(net) if preset else {}),
        **of_clips,
    )


def _finish(comparison: Comparison, pictures: Pictures, reference: Reference, options: Options) -> Evaluation:
    metrics = options.metrics or _usual(comparison, options.preset)
    by_name, left_out = figures(comparison, metrics, strict=bool(options.metrics))
    return Evaluation(
        figures=by_name,
        protocol=protocol_of(pictures, reference, comparison.net, options.preset, options.part),
        warnings=warnings_of(pictures, comparison.samples, reference, comparison.net),
        left_out=left_out,
        samples=comparison.samples,
        by_frame={} if comparison.pairs is None else by_frame(comparison.pairs),
        resized=resized(pictures.resizing if pictures.size else None, reference, comparison.net),
    )


def resized(samples: str | None, reference: Reference, net: FeatureNet) -> str:
    """Say in a line how pictures were resized before the network saw them.

    Args:
        samples: `Pictures.resizing` of the samples; None if only their statistics are known.
        reference: The reference.
        net: The network.
    """
    sets = {"samples": samples, "reference": reference.resizing}
    words = [f"{name} {'unknown' if how is None else how or 'as they are'}" for name, how in sets.items()]
    return f"{', '.join(words)}; then both for {net.name}: {net.resize}"


def _usual(comparison: Comparison, preset: Preset | None) -> tuple[str, ...]:
    """Return the metrics that fit; for reconstructions these are distances and metrics of pairs."""
    spatial = ("sfd",) if comparison.samples.spatial is not None else ()
    if comparison.pairs is not None and comparison.pairs.predicted:
        return PREDICTED if preset is None else (*preset.metrics, *(m for m in PREDICTED if m in OF_PAIRS))
    usual = (*(SET_METRICS if comparison.pairs is None else PAIR_METRICS), *spatial)
    if comparison.pairs is not None and comparison.pairs.tokens is None:
        usual = tuple(name for name in usual if name != "tokens")
    if comparison.net.of_clips:
        usual = tuple(name for name in usual if name != OF_CLASSES)
    if preset is None:
        return usual
    if comparison.pairs is None:
        return preset.metrics
    return tuple(name for name in usual if name in OF_PAIRS or name in preset.metrics)
