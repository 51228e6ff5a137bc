"""Presets: the choices of published evaluation tools between pictures and figures, by the tool's name.

The tools share their formulas and differ in network, resizing, scaling, splits, subsets and neighbours. A preset fixes
all of these and puts them into the protocol, so that figures of two presets never compare. A preset also
lists the figures of its tool. All tools divide covariances by n - 1; tools for video, some of which divide by n, need
networks of clips, which arzoo lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from arzoo.base.errors import UnknownName
from arzoo.metrics.comparison import OURS, Rules, Unavailable
from arzoo.metrics.scores.kernel import SIZE, SUBSETS
from arzoo.models.vision.features import FeatureNet


@dataclass(frozen=True)
class Preset:
    """The choices of one tool.

    Attributes:
        name: Name of the tool.
        net: The feature network with the tool's way of reading pictures.
        metrics: Registered names of the tool's figures.
        rules: Choices after the features are computed.
    """

    name: str
    net: str
    metrics: tuple[str, ...]
    rules: Rules = OURS

    def check(self, metrics: Sequence[str], paired: Collection[str] = ()) -> None:
        """Refuse figures that the tool does not have.

        Args:
            metrics: Names of the requested metrics.
            paired: Metrics of reconstructions beside their originals, which are available with any tool.

        Raises:
            Unavailable: The tool lacks a metric; the message lists those it has.
        """
        for name in metrics:
            if name not in (*self.metrics, *paired):
                raise Unavailable(
                    f"preset {self.name} has no {name}: the tool it stands for has {', '.join(self.metrics)}. Leave "
                    "the preset out, or take another one"
                )

    def parameters(self, net: FeatureNet) -> dict[str, Any]:
        """Return the tool's parameters, for the protocol."""
        fields: dict[str, Any] = {"preset": self.name, "scaling": net.scaling, "ddof": 1}
        if "kid" in self.metrics:
            fields["kid"] = f"{SUBSETS} subsets of {SIZE}, or of the smaller set"
        if "is" in self.metrics:
            fields["splits"] = self.rules.splits
        if "precision_recall" in self.metrics:
            fields["neighbors"] = f"k = 3, closed balls, {self.rules.searched}"
        if "density_coverage" in self.metrics:
            fields["neighbors"] = f"k = 5, open balls, {self.rules.searched}"
        return fields


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("adm", "inception_v3", ("fd", "sfd", "is", "precision_recall"), Rules(chunk=5000)),
        Preset("torch-fidelity", "inception_v3", ("fd", "is", "kid", "precision_recall"), Rules(most_real=0)),
        Preset("pytorch-fid", "inception_v3_half_pixel", ("fd",)),
        Preset("clean", "inception_v3_clean", ("fd", "kid")),
        Preset("dgm-dinov2", "dinov2_vitl14", ("fd", "kid", "density_coverage"), Rules(equal_sides=True)),
    )
}
"""By name: the evaluator of guided-diffusion, torch-fidelity, pytorch-fid, `clean` of clean-fid, dgm-eval."""


def preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UnknownName: There is no such preset.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
