"""A tiny multi-scale VQ tokenizer without training, a generator of the family var over it, and a recipe for one."""

from __future__ import annotations

from pathlib import Path

import torch
from command import CLASSES
from torch import nn

from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.control import Control
from arzoo.generation.generator import Generator
from arzoo.samplers import schedules
from arzoo.tokenizers.msvq.network import MultiScaleTokenizerConfig
from arzoo.train.recipe import Recipe

LEVELS = (1, 2, 4)
SMALL = {"width": 32, "depth": 2, "heads": 2}
PACE = {"batch": 8, "threads": 0, "preview_every": 20, "save_every": 20, "log_every": 1}
CONTROL = Control(guidance=schedules.over_steps(1, 3), top_k=12)


def multi_scale_tokenizer(folder: Path, **changes: object) -> Path:
    """A tokenizer of 16 x 16 pictures, three levels up to 4 x 4 of 16 codes, with random weights."""
    torch.manual_seed(0)
    sizes = {
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "attention": False,
        "vocab": 16,
        "code_channels": 4,
        **changes,
    }
    config = MultiScaleTokenizerConfig(image_size=16, widths=(16, 16), unshuffle=2, levels=LEVELS, **sizes)
    tokenizer = config.build()
    nn.init.normal_(tokenizer.quantizer.embedding.weight)
    nn.init.normal_(tokenizer.decoder.conv_out.weight, std=0.2)
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    return folder


def created(
    tokenizer: Path, backbone: str = "var_tiny", plan: str = "scales", **options: object
) -> Generator:
    """A generator with fresh weights over the tokenizer of a checkpoint."""
    checkpoint = open_checkpoint(tokenizer)
    return Generator.create(
        backbone, checkpoint.load("tokenizer"), plan, classes=CLASSES, tokenizer_name=tokenizer.name,
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], **options,
    )  # fmt: skip


def next_scale_generator(folder: Path, tokenizer: Path, **changes: object) -> Path:
    """The checkpoint of a generator, all of its weights at random."""
    torch.manual_seed(1)
    model = created(tokenizer, control=CONTROL, **{**SMALL, **changes})
    for parameter in (p for part in (model.backbone, *model.heads) for p in part.parameters()):
        nn.init.normal_(parameter, std=0.2)
    model.save(folder)
    return folder


def generator_recipe(tokenizer: Path, **changes: object) -> Recipe:
    """Recipe of a generator over the pictures of the fixture `two_colours`."""
    whole = {
        "task": "generator", "data": "two", "tokenizer": str(tokenizer), "variants": 1, "plan": "scales",
        "model": {"name": "var_tiny", "width": 48, "depth": 2, "heads": 2}, "generator": {"guidance": 1.0},
        "optim": {"lr": 3e-3, "warmup": 3, "ema": 0.5}, "run": PACE | {"steps": 40},
    }  # fmt: skip
    return Recipe.from_dict(whole | changes)
