"""Presets: what a published tool does between pictures and figures, by the tool's name.

The tools share their formulas and differ in network, resizing, scaling, splits, subsets and neighbours. A preset fixes
all of these and puts them into the protocol, so that figures of two presets never compare. Which figures a tool has is
part of it. Covariances are over n - 1 in all of them; the tools for video, some of which divide by n, need networks of
clips, which are not here.
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
    """What one tool does.

    Attributes:
        name: What people call it.
        net: The feature network with the tool's way of reading pictures.
        metrics: Registered names of the figures it has.
        rules: What it chooses once there are features.
    """

    name: str
    net: str
    metrics: tuple[str, ...]
    rules: Rules = OURS

    def check(self, metrics: Sequence[str], paired: Collection[str] = ()) -> None:
        """Refuse figures that the tool does not have.

        Args:
            metrics: What was asked for.
            paired: What is also there, as it is not the tool's: figures of reconstructions beside their originals.

        Raises:
            Unavailable: With those it has.
        """
        for name in metrics:
            if name not in (*self.metrics, *paired):
                raise Unavailable(
                    f"preset {self.name} has no {name}: the tool it stands for has {', '.join(self.metrics)}. Leave "
                    "the preset out, or take another one"
                )

    def told(self, net: FeatureNet) -> dict[str, Any]:
        """Its parameters, for the protocol."""
        found: dict[str, Any] = {"preset": self.name, "scaling": net.scaling, "ddof": 1}
        if "kid" in self.metrics:
            found["kid"] = f"{SUBSETS} subsets of {SIZE}, or of the smaller set"
        if "is" in self.metrics:
            found["splits"] = self.rules.splits
        if "precision_recall" in self.metrics:
            found["neighbors"] = f"k = 3, closed balls, {self.rules.searched}"
        if "density_coverage" in self.metrics:
            found["neighbors"] = f"k = 5, open balls, {self.rules.searched}"
        return found


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
"""By name: the evaluator of guided-diffusion, torch-fidelity, pytorch-fid, `clean` of clean-fid, what dgm-eval does."""


def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        UnknownName: There is none.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
