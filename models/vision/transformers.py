"""DINOv2 and CLIP as feature networks.

"DINOv2: Learning Robust Visual Features without Supervision", 2023; "Learning Transferable Visual Models From Natural
Language Supervision", 2021. The package transformers reads them from a folder, or from the cache of the Hugging Face
hub; nothing is downloaded. Frechet distances in DINOv2 features follow "Exposing flaws of generative model evaluation
metrics", 2023: the class token of the plain forward pass, pictures squashed to 224 x 224 with PIL's bicubic filter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256
from arzoo.base.paths import cached_repository
from arzoo.base.registry import register
from arzoo.models.vision.features import FeatureNet, Features

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_COLORS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and standard deviation of the colors, in 0..1, that CLIP was trained with."""
_SIDE = 224


class VisionTransformer(FeatureNet):
    """A published vision transformer.

    Args:
        name: Name that scores are named after.
        source: Repository on the hub, whose cached copy is read.
        kind: Name of a class of transformers.
        output: Name of the output that is the feature.
        scaling: Mean and standard deviation of the channels, of values in 0..1.
        path: Folder to read instead.

    Raises:
        MissingPackage: transformers is not installed.
        ArzooError: The weights are not on this machine.
    """

    resize = f"{_SIDE}x{_SIDE} bicubic of PIL"
    scaling = "(x / 255 - mean) / deviation, of ImageNet's channels or CLIP's"

    def __init__(
        self, name: str, source: str, kind: str, output: str, scaling: Any, path: str | None
    ) -> None:
        super().__init__()
        self.name, self.output = name, output
        folder = Path(path) if path else _cached(name, source)
        try:
            model = getattr(require("transformers", "text"), kind)
            self.net = model.from_pretrained(folder, local_files_only=True, use_safetensors=True).float()
            self.sha256 = file_sha256(folder / "model.safetensors")
        except (OSError, ValueError) as error:
            raise ArzooError(f"{folder} does not hold {source}: {error}") from error
        config = self.net.config
        self.width = config.projection_dim if output == "image_embeds" else config.hidden_size
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in scaling)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def read(self, x: Tensor) -> Features:
        """Squash and scale pictures, and compute their features."""
        small = torch.stack([_squash(picture) for picture in x.to(torch.uint8).cpu()]).to(x.device)
        inputs = (small.float() / 255 - self.get_buffer("mean")) / self.get_buffer("deviation")
        return Features(getattr(self.net(pixel_values=inputs), self.output))


@register("feature_net")
def dinov2_vitl14(path: str | None = None) -> FeatureNet:
    """DINOv2 ViT-L/14, class token; the network of FD-DINOv2."""
    return _dinov2("dinov2_vitl14", "facebook/dinov2-large", path)


@register("feature_net")
def dinov2_vitb14(path: str | None = None) -> FeatureNet:
    """DINOv2 ViT-B/14, class token; smaller, for monitoring training."""
    return _dinov2("dinov2_vitb14", "facebook/dinov2-base", path)


@register("feature_net")
def clip_vitl14(path: str | None = None) -> FeatureNet:
    """CLIP ViT-L/14, image embedding."""
    source = "openai/clip-vit-large-patch14"
    return VisionTransformer(
        "clip_vitl14", source, "CLIPVisionModelWithProjection", "image_embeds", CLIP_COLORS, path
    )


def _dinov2(name: str, source: str, path: str | None) -> FeatureNet:
    return VisionTransformer(name, source, "Dinov2Model", "pooler_output", _IMAGENET, path)


def _squash(picture: Tensor) -> Tensor:
    """Resize (3, H, W) uint8 to (3, 224, 224) uint8, ignoring the aspect ratio."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    small = np.array(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    return torch.from_numpy(small).permute(2, 0, 1)


def _cached(name: str, source: str) -> Path:
    """Folder of a repository in the local cache of the hub."""
    folder = cached_repository(
        source,
        f"the weights of {name} are not on this machine. Fetch them once with: hf download {source}, or give their "
        f"folder: --net {name}=FOLDER",
    )
    if not (folder / "model.safetensors").exists():
        raise ArzooError(f"{folder} has no model.safetensors. Fetch it with: hf download {source}")
    return folder
