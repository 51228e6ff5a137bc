"""Published ratings of beauty, where their weights are on this machine.

LAION's aesthetic predictors (2022) are linear layers on the picture embedding of CLIP ViT-L/14: one layer, or five with
nothing between them (the "improved" one, whose training has dropout there).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.generation.verifiers.clip import batched, load_pair
from arzoo.models.common.weight_file import read_weights
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_LAYER = re.compile(r"(?:layers\.(\d+)\.)?weight")


@register("verifier", "aesthetic")
class Aesthetic(PictureVerifier):
    """A published rating of beauty, about 1 to 10, whatever was asked for; give the file of its layers.

    Args:
        subject: Not looked at.
        head: File of the linear layers: .safetensors, .pth or .pt.
        source: CLIP that they look with, as for the verifier `clip`.

    Raises:
        MissingPackage: transformers is not installed.
        ArzooError: No file is given, it holds other layers, or the weights of CLIP are not on this machine.
    """

    name, extra = "aesthetic", "text"
    networks = frozenset({"openai/clip-vit-large-patch14"})

    def __init__(
        self, subject: Subject, head: str = "", source: str = "openai/clip-vit-large-patch14"
    ) -> None:
        if not head:
            raise ArzooError(
                "verifier 'aesthetic' needs the file of its published layers, which no package has: "
                "aesthetic:head=FILE. Without it, realism looks for damage offline."
            )
        self.networks = frozenset({source})
        self.net, self.processor, _ = load_pair(source, "clip")
        self.layers = _layers(head, self.net.config.projection_dim)

    @torch.no_grad()
    def score_images(self, images: Tensor) -> Tensor:
        """Return the ratings (B,) of pictures (B, H, W, 3) uint8."""
        return torch.cat([self._ratings(part) for part in batched(images)])

    def _ratings(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=list(images.permute(0, 3, 1, 2)), return_tensors="pt")
        pooled = self.net.vision_model(pixel_values=pixels["pixel_values"]).pooler_output
        x = F.normalize(self.net.visual_projection(pooled), dim=-1)
        for weight, bias in self.layers:
            x = F.linear(x, weight, bias)
        return x[:, 0]


@functools.cache
def _layers(path: str, width: int) -> Sequence[tuple[Tensor, Tensor]]:
    """Weights and biases of the layers of a file, in their order."""
    state = read_weights(path).state
    named = [(int(match[1] or 0), name) for name in state if (match := _LAYER.fullmatch(name))]
    layers = [(state[name], state.get(name.removesuffix("weight") + "bias")) for _, name in sorted(named)]
    widths = [width, *(len(weight) for weight, _ in layers)]
    fits = all(
        weight.shape == (after, before) and bias is not None and bias.shape == (after,)
        for (weight, bias), before, after in zip(layers, widths, widths[1:], strict=False)
    )
    if not layers or not fits or widths[-1] != 1 or len(state) != 2 * len(layers):
        raise ArzooError(
            f"{path} does not hold linear layers from {width} numbers to one rating, with weight and bias each "
            f"(layers.N.weight or weight); it has {', '.join(list(state)[:6])}"
        )
    return [(weight.float(), bias.float()) for weight, bias in layers if bias is not None]
