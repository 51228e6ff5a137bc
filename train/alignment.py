"""Alignment of a flow decoder with a frozen feature network, as a loss of training.

"Representation Alignment for Generation" (REPA), 2024, section 3.3; FlexTok ("FlexTok", 2025, appendix) trains with
it. A small head maps early features of the decoder's patches to those that the network has of the clean picture at the
same place. Head and network are parts of the training alone.

Shapes: B pictures, P patches, D width of the decoder, E channels of the network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.contracts import Tokenizer
from arzoo.models.vision.perceptual import EfficientNetLite0
from arzoo.tokenizers.flextok.tokenizer import FlexTok

_STAGE, _STRIDE, _CHANNELS = 3, 16, 112
"""The stage of EfficientNet-Lite0 whose features are the targets, its stride and channels."""


class AlignmentHead(nn.Sequential):
    """Map features (B, P, D) of a decoder to those (B, P, E) of the network."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, _CHANNELS))


class AlignmentTargets(nn.Module):
    """Features of the patches of pictures in the frozen EfficientNet-Lite0, whose weights come inside a package.

    Args:
        grid: Patches along a side.

    Raises:
        MissingPackage: The package is not installed.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.side = grid * _STRIDE
        self.net = EfficientNetLite0().eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Features (B, P, E) of pictures (B, 3, H, W) in [-1, 1], resized so that a patch is one feature."""
        x = F.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=True)
        return self.net.features(x)[_STAGE].flatten(2).transpose(1, 2)


def misalignment(projected: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean cosine of features (B, P, E), from 0 to 2, in float32."""
    return 1 - F.cosine_similarity(projected.float(), targets.float(), dim=-1).mean()


def alignment_of(tokenizer: Tokenizer) -> tuple[AlignmentHead, AlignmentTargets]:
    """Build the head and the targets for a tokenizer.

    Raises:
        ArzooError: The tokenizer has no flow decoder, or its `align_after` is no block of it.
    """
    if not isinstance(tokenizer, FlexTok):
        raise ArzooError(
            f"loss.align aligns features of the flow decoder of a FlexTok, and {called(tokenizer)} has none: "
            "set loss.align=0"
        )
    config = tokenizer.config
    if not 0 <= config.align_after < config.decoder.depth:
        raise ArzooError(
            f"model.align_after={config.align_after} is no block of the decoder: it has blocks 0 to "
            f"{config.decoder.depth - 1}"
        )
    return AlignmentHead(config.decoder.width), AlignmentTargets(config.grid)
