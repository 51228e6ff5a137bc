"""Comparison: the input of a metric, and the names of its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.metrics.bank import PictureFeatures
from arzoo.metrics.protocol import Figure
from arzoo.metrics.scores.inception_score import SEED, SPLITS
from arzoo.models.vision.features import FeatureNet

REPLICATES = 20
MOST_NEIGHBORS = 10_000
"""Pictures per side whose neighbours are searched, as in published figures."""
_OF_THE_STANDARD_NET = {"fd": "fid", "sfd": "sfid", "rfd": "rfid", "rsfd": "rsfid"}
_OF_CLIPS = {"fd": "fvd", "kid": "kvd"}


class Unavailable(ArzooError):
    """A metric needs something that this comparison does not have."""


def without_pictures(what: str, side: str) -> str:
    """Return why a metric needs pictures rather than statistics."""
    return f"{what} compares picture with picture, but of the {side} only statistics are known; give pictures"


def without_pairs(what: str) -> str:
    """Return why a metric needs reconstructions rather than samples."""
    return f"{what} compares reconstructions with their originals: evaluate a tokenizer for it"


def no_fvd(net: FeatureNet) -> str:
    """Return why the distance in a network is not called FVD."""
    is_i3d = "has other weights than the published ones" if net.name.startswith("i3d") else "is not I3D"
    kind = f"and gives fvd_{net.name} (metric fd)" if net.of_clips else "and takes pictures"
    return (
        f"FVD is the distance of clips in the published I3D network: {net.name} {is_i3d}, {kind}. Give its file: "
        "--preset stylegan-v --net i3d=i3d_torchscript.pt"
    )


@dataclass(frozen=True)
class Pairs:
    """Reconstructions beside their originals, picture by picture, over all processes.

    T are the frames of a clip, 1 of pictures.

    Attributes:
        psnr: (n, T) in dB.
        ssim: (n, T).
        perceptual: (n, T), None if it was not requested.
        perceptual_net: Name of its network.
        codes: (n, ...) codes of each picture, negative where a token is left out; None for continuous tokens.
        vocab: Size of the codebook.
        tokens: (n,) number of tokens of each picture, None if all pictures have all tokens.
        predicted: They are predictions of frames rather than reconstructions: T are the new frames.
    """

    psnr: Tensor
    ssim: Tensor
    perceptual: Tensor | None
    perceptual_net: str
    codes: Tensor | None
    vocab: int
    tokens: Tensor | None
    predicted: bool = False


@dataclass(frozen=True)
class Rules:
    """Choices in which tools differ after the features are computed.

    Attributes:
        chunk: Pictures per part of the Inception score, in their order; 0 shuffles them into equal parts.
        most_real: Reference pictures whose neighbors are searched, 0 for all.
        equal_sides: Whether density and coverage use equally many pictures of both sides.
        ddof: Covariances of Frechet distances are divided by n minus this.
    """

    chunk: int = 0
    most_real: int = MOST_NEIGHBORS
    equal_sides: bool = False
    ddof: int = 1

    @property
    def splits(self) -> str:
        """Parts of the Inception score, in words."""
        return (
            f"chunks of {self.chunk}, in order"
            if self.chunk
            else f"{SPLITS} equal, shuffled with seed {SEED}"
        )

    @property
    def divisor(self) -> str:
        """What covariances are divided by, in words."""
        return f"n - {self.ddof}" if self.ddof else "n"

    @property
    def searched(self) -> str:
        """Pictures whose neighbors are searched, in words."""
        if self.equal_sides:
            return f"at most {MOST_NEIGHBORS} of either side, equally many"
        return f"at most {self.most_real} real" if self.most_real else "all real"


OURS = Rules()


@dataclass(frozen=True)
class Comparison:
    """Two sets of pictures, or of clips, in the features of one network.

    Attributes:
        net: The network.
        samples: The scored set.
        reference: The reference set.
        replicates: Resamples of the bootstrap, 0 leaves errors out.
        pairs: Pairs of pictures, if the samples are reconstructions of the reference.
        rules: Choices that the metrics leave open.
    """

    net: FeatureNet
    samples: PictureFeatures
    reference: PictureFeatures
    replicates: int = REPLICATES
    pairs: Pairs | None = None
    rules: Rules = OURS

    def name(self, metric: str) -> str:
        """Return the name of a figure, with its network; only those of the conventions give `fid` and `fvd`."""
        metric = _OF_CLIPS.get(metric, metric) if self.net.of_clips else metric
        metric = f"r{metric}" if self.pairs is not None and not self.pairs.predicted else metric
        if self.net.standard:
            return _OF_THE_STANDARD_NET.get(metric, metric)
        return f"{metric}_{self.net.name}"

    def features(self, what: str) -> tuple[Tensor, Tensor]:
        """Return the features of all samples and reference pictures.

        Raises:
            Unavailable: Only statistics of one side are known.
        """
        for side, measured in (("samples", self.samples), ("reference", self.reference)):
            if measured.features is None:
                raise Unavailable(without_pictures(what, side))
        assert self.samples.features is not None
        assert self.reference.features is not None
        return self.samples.features, self.reference.features

    def require_pairs(self, what: str) -> Pairs:
        """Return the scores of reconstructions beside their originals.

        Raises:
            Unavailable: The samples are not reconstructions.
        """
        if self.pairs is None:
            raise Unavailable(without_pairs(what))
        return self.pairs


def figures(
    comparison: Comparison, metrics: Sequence[str], strict: bool
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Compute the figures of several metrics.

    Args:
        comparison: The two sets of pictures.
        metrics: Registered names.
        strict: Raise if a metric is not available, rather than leave it out.

    Returns:
        The figures by name, and why metrics were left out.

    Raises:
        UnknownName: There is no such metric.
        Unavailable: With `strict`, a metric is not available.
    """
    by_name: dict[str, Figure] = {}
    left_out: dict[str, str] = {}
    for metric in metrics:
        try:
            values = registry.create("metric", metric, comparison=comparison)
            if broken := [name for name, figure in values.items() if not math.isfinite(figure.value)]:
                raise Unavailable(f"{', '.join(broken)} would be no number (nan or infinity)")
            by_name |= values
        except Unavailable as reason:
            if strict:
                raise
            left_out[metric] = str(reason)
    return by_name, left_out
