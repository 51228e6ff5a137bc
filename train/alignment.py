"""Alignment with a frozen feature network, as a loss of training: of a flow decoder, or of quantized vectors.

"Representation Alignment for Generation" (REPA), 2024, section 3.3; FlexTok ("FlexTok", 2025, appendix) trains with
it. A small head maps early features of the decoder's patches to those that the network has of the clean picture at the
same place. Of other tokenizers, the head maps the quantized vectors, so that codes also tell what is shown (the
semantic term of LongCat-Next, 2026, whose targets are those of its own frozen encoder). Head and network are parts of
the training alone.

Shapes: B pictures, P patches or tokens, D channels of the features, E channels of the network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.models.vision.perceptual import EfficientNetLite0
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.flextok.tokenizer import FlexTok, FlowMatching
from arzoo.tokenizers.quantizers.base import Quantization
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.tokenizers.quantizers.vq import VectorQuantizer

_STAGE, _STRIDE, _CHANNELS = 3, 16, 112
"""The stage of EfficientNet-Lite0 whose features are the targets, its stride and channels."""


class AlignmentHead(nn.Sequential):
    """Map features (B, P, D) of a decoder to those (B, P, E) of the network."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, _CHANNELS))


class AlignmentTargets(nn.Module):
    """Features of the patches of pictures in the frozen EfficientNet-Lite0, whose weights come inside a package.

    Args:
        patch: Height and width of a patch in pixels.

    Raises:
        MissingPackage: The package is not installed.
    """

    def __init__(self, patch: tuple[int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.net = EfficientNetLite0().eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Features (B, P, E) of pictures (B, 3, H, W) in [-1, 1], resized so that a patch is one feature."""
        size = [side // patch * _STRIDE for side, patch in zip(x.shape[2:], self.patch, strict=True)]
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        return self.net.features(x)[_STAGE].flatten(2).transpose(1, 2)


def misalignment(projected: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean cosine of features (B, P, E), from 0 to 2, in float32."""
    return 1 - F.cosine_similarity(projected.float(), targets.float(), dim=-1).mean()


def alignment_of(tokenizer: Tokenizer) -> tuple[AlignmentHead, AlignmentTargets]:
    """Build the head and the targets for a tokenizer.

    Raises:
        ArzooError: It is neither a FlexTok nor one of codes on the grid of a still picture, or its `align_after` is no
            block of the decoder.
    """
    if not isinstance(tokenizer, FlexTok):
        return AlignmentHead(_quantizer(tokenizer).channels), AlignmentTargets(_patch(tokenizer))
    config = tokenizer.config
    if not 0 <= config.align_after < config.decoder.depth:
        raise ArzooError(
            f"model.align_after={config.align_after} is no block of the decoder: it has blocks 0 to "
            f"{config.decoder.depth - 1}"
        )
    patch = config.image_size // config.grid
    return AlignmentHead(config.decoder.width), AlignmentTargets((patch, patch))


def aligned_features(bottleneck: Bottleneck) -> Tensor:
    """Return what is aligned (B, P, D): features of a flow decoder's patches, or quantized vectors."""
    if isinstance(bottleneck, FlowMatching):
        assert bottleneck.features is not None
        return bottleneck.features
    assert isinstance(bottleneck, Quantization)
    return bottleneck.vectors.flatten(1, -2)


def _quantizer(tokenizer: Tokenizer) -> VectorQuantizer | ResidualVQ:
    """The quantizer of a tokenizer of still pictures whose codes stand at places of the picture."""
    quantizer = getattr(tokenizer, "quantizer", None)
    layout = tokenizer.spec.layout
    of_places = isinstance(layout, Grid) and layout.t == 1
    if not isinstance(quantizer, (VectorQuantizer, ResidualVQ)) or not of_places:
        raise ArzooError(
            "loss.align aligns features of the flow decoder of a FlexTok, or codes that stand at places of still "
            f"pictures, and {called(tokenizer)} has neither: set loss.align=0"
        )
    return quantizer


def _patch(tokenizer: Tokenizer) -> tuple[int, int]:
    """Height and width of a token in pixels."""
    layout, (height, width) = tokenizer.spec.layout, tokenizer.image_size
    assert isinstance(layout, Grid)
    return height // layout.h, width // layout.w
