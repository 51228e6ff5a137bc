"""Tiny models that draw what a text says and say what a picture shows."""

from __future__ import annotations

from pathlib import Path

import torch

from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.generation.generator import Generator
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SIZES = {"width": 32, "depth": 1, "heads": 2, "hidden": 48, "text_length": 10, "rows": 8, "inputs": 80}


def residual_tokenizer(folder: Path) -> Path:
    """A tokenizer of 16 x 16 pictures, 4 x 4 positions of 2 codes, with random weights."""
    torch.manual_seed(0)
    tokenizer = VQTokenizerConfig(
        image_size=16, widths=(8, 16, 16), encoder_blocks=1, decoder_blocks=1, latent=8, attention=False, vocab=16,
        code_channels=4, codebooks=2,
    ).build()  # fmt: skip
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, bits=16, spec=tokenizer.spec.to_dict())
    return folder


def two_way_model(folder: Path, tokenizer: Path, **changes: object) -> Generator:
    """A model with random weights that describes, unless the changes say otherwise, in its folder."""
    checkpoint = open_checkpoint(tokenizer)
    torch.manual_seed(0)
    model = Generator.create(
        "longcat_tiny", checkpoint.load("tokenizer"), "newlines", classes=(), tokenizer_name=tokenizer.name,
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], text="bytes", head_options={"heads": 2},
        **{"describes": True, **SIZES, **changes},
    )  # fmt: skip
    if model.backbone.words is not None:
        torch.nn.init.normal_(model.backbone.words.output.weight, std=0.3)
    model.save(folder)
    return model
