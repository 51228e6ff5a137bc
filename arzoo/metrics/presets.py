"""Presets: the choices of published evaluation tools between pictures and figures, by the tool's name.

The tools share their formulas and differ in network, resizing, scaling, splits, subsets, neighbors and what they
divide covariances by; tools for clips differ in the number of frames too. A preset fixes all of these and puts them
into the protocol, so that figures of two presets never compare. A preset also lists the figures of its tool.
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
        frames: First frames of a clip that are scored unless others are requested, 0 for tools of pictures.
    """

    name: str
    net: str
    metrics: tuple[str, ...]
    rules: Rules = OURS
    frames: int = 0

    def check(self, metrics: Sequence[str], paired: Collection[str] = ()) -> None:
        """Refuse figures that the tool does not have. The `fd` of clips may be asked for as `fvd`.

        Args:
            metrics: Names of the requested metrics.
            paired: Metrics of reconstructions beside their originals, which are available with any tool.

        Raises:
            Unavailable: The tool lacks a metric; the message lists those it has.
        """
        of_clips = ("fvd",) if self.frames else ()
        for name in metrics:
            if name not in (*self.metrics, *of_clips, *paired):
                raise Unavailable(
                    f"preset {self.name} has no {name}: the tool it stands for has {', '.join(self.metrics)}. Leave "
                    "the preset out, or take another one"
                )

    def parameters(self, net: FeatureNet) -> dict[str, Any]:
        """Return the tool's parameters, for the protocol."""
        fields: dict[str, Any] = {"preset": self.name, "scaling": net.scaling, "ddof": self.rules.ddof}
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
        Preset("stylegan-v", "i3d", ("fd",), Rules(ddof=0), frames=16),
        Preset("cd-fvd-i3d", "i3d", ("fd",), Rules(ddof=0), frames=16),
        Preset("cd-fvd-videomae", "videomae2_vitg", ("fd",), Rules(ddof=0), frames=16),
        Preset("nbp-fvd", "i3d_cropped", ("fd",), frames=16),
    )
}
"""By name: the evaluator of guided-diffusion, torch-fidelity, pytorch-fid, `clean` of clean-fid, dgm-eval, and of clips
those of StyleGAN-V, of cd-fvd with its two networks, and of next-block prediction."""


def preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UnknownName: There is no such preset.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
