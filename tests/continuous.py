"""A tokenizer of continuous tokens without training, and a tiny masked generator over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from command import CLASSES
from einops import rearrange
from torch import Tensor, nn

from arzoo.checkpoint import open_checkpoint, save_parts
from arzoo.config import Config
from arzoo.control import Control
from arzoo.generator import Generator
from arzoo.layout import Grid
from arzoo.models.diffusion_head import DiffusionMLPConfig
from arzoo.models.mar import MARConfig
from arzoo.tokenizers.base import Tokenizer
from arzoo.tokens import TokenSpec


@dataclass(frozen=True, kw_only=True)
class PatchesConfig(Config):
    """A picture of `side` patches a side, each `patch` pixels a side."""

    side: int = 4
    patch: int = 4

    def build(self) -> Patches:
        return Patches(self)


class Patches(Tokenizer):
    """Pixels of a patch are the channels of its token, times a scale."""

    def __init__(self, config: PatchesConfig) -> None:
        super().__init__()
        self.config, self.scale = config, nn.Parameter(torch.tensor(2.0))
        self.spec = TokenSpec(Grid(1, config.side, config.side), channels=3 * config.patch**2)
        self.image_size = (config.side * config.patch,) * 2

    def encode(self, x: Tensor) -> Tensor:
        sizes = {"p": self.config.patch, "q": self.config.patch}
        return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", **sizes) * self.scale

    def decode(self, values: Tensor) -> Tensor:
        sizes = {"h": self.config.side, "p": self.config.patch, "q": self.config.patch}
        return rearrange(values / self.scale, "b (h w) (c p q) -> b c (h p) (w q)", **sizes)


def patches(folder: Path) -> Path:
    """A checkpoint of the tokenizer."""
    tokenizer = PatchesConfig().build()
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    return folder


def tiny_masked(folder: Path, tokenizer: Path, seed: int = 0) -> Path:
    """A masked generator over the tokenizer, with random weights that keep its tokens bounded."""
    torch.manual_seed(seed)
    checkpoint = open_checkpoint(tokenizer)
    frozen = checkpoint.load("tokenizer")
    assert isinstance(frozen, Patches)
    channels = frozen.spec.channels
    sizes = {"width": 32, "depth": 1, "heads": 2, "buffer": 2, "classes": len(CLASSES)}
    backbone = MARConfig(grid=(1, 4, 4), channels=channels, **sizes).build()
    head = DiffusionMLPConfig(width=32, channels=channels, hidden=64, depth=1, head_steps=6).build()
    for parameter in (*backbone.parameters(), *head.parameters()):
        nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():  # noise is about the noisy token itself, so that the clean one stays small
        head.input.weight.copy_(torch.eye(64, channels))
        head.output.weight[:channels] += torch.eye(channels, 64)
    Generator(
        frozen, backbone, [head], "masked", {"steps": 5}, CLASSES, Control(max_timestep=950),
        tokenizer.name, checkpoint.parts["tokenizer"]["weights"],
    ).save(folder)  # fmt: skip
    return folder
