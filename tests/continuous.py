"""A tokenizer of continuous tokens without training, a tiny masked generator over it, and one of every family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command import CLASSES, tiny_kl_tokenizer
from einops import rearrange
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.contracts import Tokenizer
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.generator import Generator
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.mar.network import MARConfig
from arzoo.samplers import schedules


@dataclass(frozen=True, kw_only=True)
class PatchesConfig(Config):
    """Clips of `frames` frames, `side` patches a side, each `patch` pixels a side."""

    side: int = 4
    patch: int = 4
    frames: int = 1

    def build(self) -> Patches:
        return Patches(self)


class Patches(Tokenizer):
    """Pixels of a patch are the channels of its token, times a scale."""

    strictly_causal = True

    def __init__(self, config: PatchesConfig) -> None:
        super().__init__()
        self.config, self.scale = config, nn.Parameter(torch.tensor(2.0))
        channels, size = 3 * config.patch**2, (1, config.patch, config.patch)
        self.spec = TokenSpec(
            Grid(config.frames, config.side, config.side), channels=channels, downscale=size
        )
        self.image_size, self.frames = (config.side * config.patch,) * 2, config.frames

    def encode(self, x: Tensor) -> Tokens:
        layout, sizes = self.spec.layout_of(x.shape[2:]), {"p": self.config.patch, "q": self.config.patch}
        values = rearrange(x, "b c t (h p) (w q) -> b (t h w) (c p q)", **sizes) * self.scale
        return Tokens.of(values, layout=layout)

    def decode(self, tokens: Tokens) -> Tensor:
        layout = self.spec.require(tokens)
        assert isinstance(layout, Grid)
        sizes = {"t": layout.t, "h": layout.h, "p": self.config.patch, "q": self.config.patch}
        return rearrange(tokens.values / self.scale, "b (t h w) (c p q) -> b c t (h p) (w q)", **sizes)


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


SMALL = {"width": 32, "depth": 1, "heads": 2}
MODULATED = {"width": 32, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}
HEAD = {"head_options": {"hidden": 32, "depth": 1, "head_steps": 6}}
RISING, OVER_TOKENS = schedules.over_steps(1, 3), schedules.over_tokens(1, 3)
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mar": ("mar_tiny", "masked", {"plan_options": {"steps": 5}, "buffer": 2, **SMALL, **HEAD,
            "control": Control(guidance=OVER_TOKENS, max_timestep=950)}),
    "mar annealed": ("mar_tiny", "masked", {"plan_options": {"steps": 5}, "buffer": 2, **SMALL, **HEAD,
            "control": Control(head_steps=schedules.anneal(9, 2), max_timestep=950, temperature=0.9)}),
    "mar flow": ("mar_tiny", "masked", {"plan_options": {"steps": 5}, "buffer": 2, **SMALL, **HEAD,
            "head": "flow_mlp_tiny", "control": Control(head_steps=schedules.anneal(5, 2, "cosine"))}),
    "xar cells": ("xar_tiny", "cells", {"plan_options": {"regions": 2}, **MODULATED,
            "control": Control(guidance=RISING, head_steps=schedules.anneal(6, 3, "two-stage"))}),
    "xar tokens": ("xar_tiny", "cells", {"plan_options": {"regions": 4}, **MODULATED,
            "control": Control(guidance=2.0, head_steps=3, interval=(0.0, 0.8))}),
    "xar subsamples": ("xar_tiny", "subsamples", {"plan_options": {"stride": 2}, **MODULATED,
            "control": Control(guidance=RISING, head_steps=4, solver="euler")}),
    "xar whole": ("xar_tiny", "whole", {**MODULATED, "control": Control(head_steps=4, solver="heun")}),
    "xar scales": ("xar_tiny", "scales", {"plan_options": {"readout": "inplace"}, **MODULATED,
            "control": Control(guidance=RISING, head_steps=4)}),
    "flowar": ("flowar_tiny", "scales", {"plan_options": {"levels": [1, 2, 4]}, **MODULATED,
            "head_options": {"hidden": 64, "depth": 1, "head_steps": 4}, "control": Control(guidance=RISING)}),
    "raster diffusion": ("raster_tiny", "raster", {**SMALL, **HEAD,
            "control": Control(guidance=2.0, max_timestep=950, temperature=schedules.over_steps(1.1, 0.9))}),
    "next-neighbor flow": ("nar_tiny", "next_neighbor", {**SMALL, **HEAD, "head": "flow_mlp_tiny",
            "control": Control(guidance=schedules.within(RISING, 0.2, 0.9))}),
}  # fmt: skip
"""Backbone, plan and options of `Generator.create` for every family of continuous tokens, tiny."""


def made(name: str, tokenizer: Path) -> Generator:
    """A tiny generator of a family over the tokenizer of some checkpoint, all of its weights at random."""
    backbone, plan, options = FAMILIES[name]
    checkpoint = open_checkpoint(tokenizer)
    torch.manual_seed(0)
    model = Generator.create(
        backbone, checkpoint.load("tokenizer"), plan, classes=CLASSES, tokenizer_name=tokenizer.name,
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], **options,
    )  # fmt: skip
    for parameter in (p for part in (model.backbone, *model.heads) for p in part.parameters()):
        nn.init.normal_(parameter, std=0.08)
    return model.with_weights(model.backbone.eval(), [head.eval() for head in model.heads])


def all_families(root: Path) -> Path:
    """Checkpoints of all families, and `tok`, the tokenizer of them."""
    tokenizer = tiny_kl_tokenizer(root / "tok")
    for name in FAMILIES:
        made(name, tokenizer).save(root / name)
    return root
