"""A verifier of picture and text without CLIP: two small heads on frozen networks.

EfficientNet-Lite0 looks at the picture, all-MiniLM-L6-v2 reads the text, and two heads, trained in seconds on the
drawings and names of a data set's training split, bring both into one space with the symmetric contrastive loss of CLIP
("Learning Transferable Visual Models From Natural Language Supervision", 2021, section 2.3). Everything follows
from the seed: a search steered by one verifier must be scored by a verifier of another seed, or it games its metric.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import arzoo.data
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.data.transforms import composite
from arzoo.generation.verifiers.trained import trained_once
from arzoo.generation.verifiers.training import TrainingConfig, features_of, trained
from arzoo.models.text.encoders import TextEncoder, open_text_encoder
from arzoo.models.vision.features import DEFAULT, feature_net, features
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_WORDS = 64
"""Tokens that are read of a text; longer texts are cut."""


@dataclass(frozen=True, kw_only=True)
class ImageTextConfig(TrainingConfig):
    """How the heads of the verifier are trained; their data set needs captions.

    Attributes:
        text: Text encoder.
        width: Channels of the common space.
        hidden: Hidden channels of the picture's head.
        dropout: Dropout in front of it.
    """

    text: str = "minilm"
    width: int = 384
    hidden: int = 512
    dropout: float = 0.2


class Heads(nn.Module):
    """Pictures and texts in one space of unit vectors."""

    def __init__(self, image_width: int, text_width: int, config: ImageTextConfig) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(image_width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.width),
        )
        self.text = nn.Linear(text_width, config.width)
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # a temperature of 0.07

    def images(self, x: Tensor) -> Tensor:
        """Unit vectors (B, W) of picture features (B, D)."""
        return F.normalize(self.image(x), dim=-1)

    def texts(self, x: Tensor) -> Tensor:
        """Unit vectors (B, W) of text features (B, D)."""
        return F.normalize(self.text(x), dim=-1)

    def loss(self, images: Tensor, texts: Tensor, same: Tensor) -> Tensor:
        """Symmetric contrastive loss of picture and text features.

        Args:
            images: (B, D) features.
            texts: (B, D) features of their texts.
            same: (B, B) bool, which texts belong to which pictures: two drawings may share a name.
        """
        logits = self.log_scale.exp() * self.images(images) @ self.texts(texts).T
        targets = same.float() / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


@register("verifier", "image_text")
class ImageText(PictureVerifier):
    """Cosine of picture and prompt: heads on EfficientNet-Lite0 and MiniLM, trained on the names of a data set.

    Args:
        subject: The prompt.
        data: Data set whose training split the heads learn from; it needs captions.
        text: Text encoder.
        seed: Weights of the heads, and order of the data.

    Raises:
        ArzooError: The data set has no captions, or weights are not on this machine.
    """

    name, needs, range = "image_text", frozenset({"prompt"}), (-1.0, 1.0)
    networks = frozenset({DEFAULT, "minilm"})

    def __init__(self, subject: Subject, data: str = "emoji64", text: str = "minilm", seed: int = 0) -> None:
        self.prompt, self.networks = subject.prompt, frozenset({DEFAULT, text})
        self.encoder, self.heads = _parts(ImageTextConfig(data=data, text=text, seed=seed))

    def score_images(self, images: Tensor) -> Tensor:
        """Return the cosines (B,) of pictures (B, H, W, 3) uint8 and the prompt."""
        assert self.prompt is not None, "the prompt is checked where a verifier is opened"
        return self.similarity(images, [self.prompt])[:, 0]

    def similarity(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the cosines (B, C) between pictures (B, H, W, 3) uint8 and texts."""
        texts = self.heads.texts(text_features(self.encoder, captions))
        return self.heads.images(features(images.cpu())) @ texts.T


def text_features(encoder: TextEncoder, captions: Sequence[str]) -> Tensor:
    """Return unit vectors (n, D): the mean over the tokens of each caption."""
    token_features, mask = encoder(captions, _WORDS, batch=64)
    return F.normalize(token_features.sum(1) / mask.sum(1, keepdim=True), dim=-1)


def train_heads(images: Tensor, texts: Tensor, names: Tensor, config: ImageTextConfig) -> Heads:
    """Train the heads.

    Args:
        images: (n, D) features of pictures.
        texts: (n, E) features of their texts.
        names: (n,) int64, equal for pictures of the same text.
        config: Settings of the training.

    Returns:
        The heads, the same for the same arguments.
    """

    def loss(heads: Heads, rows: Tensor) -> Tensor:
        return heads.loss(images[rows], texts[rows], names[rows, None] == names[rows])

    return trained(lambda: Heads(images.shape[1], texts.shape[1], config), loss, len(images), config)


@functools.cache
def _parts(config: ImageTextConfig) -> tuple[TextEncoder, Heads]:
    """The text encoder and the heads, trained on first use."""
    encoder = open_text_encoder(config.text)
    data = arzoo.data.load(config.data).split("train")
    captions = data.captions
    if captions is None:
        raise ArzooError(
            f"data set {data.name!r} has no captions to learn from; take one that has, such as emoji64"
        )

    def train() -> Heads:
        names = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        pictures = features_of(feature_net(), composite(data.images))
        index = torch.tensor([names[caption] for caption in captions])
        return train_heads(pictures, text_features(encoder, list(names))[index], index, config)

    width = feature_net().width
    depends = [config.hash(), encoder.sha256, feature_net().sha256, data.sha256, "\n".join(captions)]
    return encoder, trained_once("image_text", depends, lambda: Heads(width, encoder.width, config), train)
