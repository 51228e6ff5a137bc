"""PatchGAN discriminator, as in LlamaGen.

"Image-to-Image Translation with Conditional Adversarial Networks", 2017, section 3.2.2.
"""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Classify overlapping patches: one logit per patch, high for real ones.

    Args:
        width: Channels of the first layer.
        layers: Layers with stride 2.

    Attributes:
        least_side: Smallest side of the pictures, in pixels: with a smaller one there is no patch.
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.least_side = 3 * 2**layers
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        inner = width
        for i in range(1, layers + 1):
            outer = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [
                nn.Conv2d(inner, outer, 4, stride, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.LeakyReLU(0.2),
            ]
            inner = outer
        self.main = nn.Sequential(*modules, nn.Conv2d(inner, 1, 4, 1, 1))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, h, w) logits."""
        return self.main(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
