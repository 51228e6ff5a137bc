"""Class probe: how likely a picture is of its class, to a classifier that is trained on the data set."""

from __future__ import annotations

import functools
import math

from torch import Tensor

import arzoo.data
from arzoo.base.errors import UnknownName
from arzoo.base.registry import register
from arzoo.data.base import label_of
from arzoo.data.transforms import composite
from arzoo.generation.verifiers.probe import Probe, ProbeConfig, train_probe
from arzoo.generation.verifiers.trained import trained_once
from arzoo.generation.verifiers.training import features_of
from arzoo.models.vision.features import feature_net, pooled
from arzoo.samplers.verifiers.base import PictureVerifier, Subject


@register("verifier", "class_probe")
class ClassProbe(PictureVerifier):
    """Log-probability of the class, in nats: a linear probe on SqueezeNet, trained on the classes of a data set.

    A prompt stands for the classes of all drawings that have it as their caption.

    Args:
        subject: The class, or a prompt.
        data: Data set whose training split the probe learns from.
        net: Registered feature network that looks at the pictures.
        seed: Weights of the probe, and order of the data.

    Raises:
        UnknownName: The data set has no such class, or no drawing with the prompt as its caption.
    """

    name, needs, range = "class_probe", frozenset({"class"}), (-math.inf, 0.0)
    networks = frozenset({ProbeConfig.net})

    def __init__(
        self, subject: Subject, data: str = "emoji64", net: str = ProbeConfig.net, seed: int = 0
    ) -> None:
        config = ProbeConfig(data=data, net=net, seed=seed)
        self.networks, self.net = frozenset({net}), feature_net(net)
        self.labels = _labels(data, subject)
        self.probe = _trained(config)

    @classmethod
    def lacks(cls, subject: Subject) -> list[str]:
        """Nothing if there is a class or a prompt."""
        return [] if subject.prompt is not None else super().lacks(subject)

    def score_images(self, images: Tensor) -> Tensor:
        """Return log-probabilities (B,) of pictures (B, H, W, 3) uint8."""
        return self.probe(pooled(self.net, images.cpu()))[:, self.labels].logsumexp(1)


def _labels(data: str, subject: Subject) -> list[int]:
    """The class of a subject, or the classes of all drawings with its prompt as their caption."""
    classes, labels = _names(data)
    if subject.label is not None:
        return [label_of(subject.label, classes)]
    prompt = subject.prompt or ""
    if prompt.casefold() not in labels:
        raise UnknownName(
            "caption",
            prompt,
            labels,
            f"Verifier 'class_probe' knows classes, and of prompts only the captions of {data}.",
        )
    return sorted(labels[prompt.casefold()])


@functools.cache
def _names(name: str) -> tuple[tuple[str, ...], dict[str, set[int]]]:
    """Classes of a data set, and the classes of the drawings of each caption, in lower case."""
    data = arzoo.data.load(name)
    return data.classes, data.labels_of_captions()


@functools.cache
def _trained(config: ProbeConfig) -> Probe:
    """The probe, trained on first use."""
    data, net = arzoo.data.load(config.data).split("train"), feature_net(config.net)
    classes = len(data.classes)

    def train() -> Probe:
        return train_probe(features_of(net, composite(data.images)), data.labels, classes, config)

    depends = [config.hash(), net.sha256, data.sha256, *data.classes]
    return trained_once("class_probe", depends, lambda: Probe(net.width, classes), train)
