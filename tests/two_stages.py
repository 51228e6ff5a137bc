"""A generator of the family himar without training, over a tokenizer of 4 x 4 patches."""

from __future__ import annotations

from pathlib import Path

import torch
from command import CLASSES
from continuous import patches
from torch import nn

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.control import Control
from arzoo.generation.generator import Generator

LAYERS = {"width": 32, "depth": 1, "heads": 2, "dropout": 0.0}


def two_stage_generator(tokenizer: Path) -> Generator:
    """Two steps for 2 x 2 pivots and three for the dense tokens, all weights at random; writes the tokenizer."""
    checkpoint = open_checkpoint(patches(tokenizer))
    torch.manual_seed(0)
    model = Generator.create(
        "himar_tiny", checkpoint.load("tokenizer"), "pivots", classes=CLASSES, tokenizer_name=str(tokenizer),
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], plan_options={"steps": [2, 3]},
        stage_heads=[("diffusion_mlp_tiny", {"hidden": 32, "depth": 1}), ("dit_tiny", {"hidden": 16, "depth": 1})],
        control=Control(head_steps=4, max_timestep=950), **LAYERS,
    )  # fmt: skip
    for part in model.parts.values():
        for name, parameter in part.named_parameters():
            # Gates and norms let signals through.
            if parameter.dim() > 1 and not name.endswith("stage_shift"):
                nn.init.normal_(parameter, std=0.1)
        part.eval()
    return model
