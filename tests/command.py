"""Running the command inside the test process, and tiny checkpoints for it to work with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from arzoo.checkpoints.folder import save_parts
from arzoo.cli.__main__ import main
from arzoo.data.base import ImageSet
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.network import VQTokenizerConfig

CLASSES = ("animal/plain", "animal/round", "food/plain")


class Result(NamedTuple):
    """What one command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run `arzoo ARGUMENTS`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return Result(int(stop.value.code or 0), out, err)


def failing(result: Result, *words: str, status: int = 1) -> None:
    """Check that a command failed with one message that has these words, and no traceback."""
    assert result.status == status, result
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err, (word, result.err)


def tiny_models(folder: Path) -> Path:
    """A folder with a tiny generator `gen` and its tokenizer `tok`."""
    tiny_generator(folder / "gen", tiny_tokenizer(folder / "tok"))
    return folder


def tiny_tokenizer(folder: Path, seed: int = 0) -> Path:
    """A tokenizer of 16 x 16 pictures, 4 x 4 codes, with random weights."""
    torch.manual_seed(seed)
    sizes = {
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "latent": 32,
        "attention": False,
        "vocab": 16,
        "code_channels": 4,
    }
    tokenizer = VQTokenizerConfig(image_size=16, widths=(32, 32, 32), **sizes).build()
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, bits=16, spec=tokenizer.spec.to_dict())
    return folder


def tiny_kl_tokenizer(folder: Path, seed: int = 0) -> Path:
    """A tokenizer of 16 x 16 pictures, 4 x 4 vectors of 3 numbers, with random weights."""
    torch.manual_seed(seed)
    sizes = {
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "encoder_attention": "none",
        "decoder_attention": "none",
    }
    config = KLTokenizerConfig(image_size=16, widths=(32, 32, 32), channels=3, scale=0.5, shift=0.25, **sizes)
    tokenizer = config.build()
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    return folder


def tiny_generator(
    folder: Path,
    tokenizer: Path,
    seed: int = 0,
    plan: str = "next_neighbor",
    text: PromptReader | None = None,
    classes: Sequence[str] | None = None,
) -> Path:
    """A next-neighbor generator over the tokenizer beside it, with random weights, of classes or of texts, or both."""
    from arzoo.checkpoints.folder import open_checkpoint

    torch.manual_seed(seed)
    checkpoint = open_checkpoint(tokenizer)
    sizes = {"width": 32, "depth": 1, "heads": 2, "vocab": 16, "grid": (1, 4, 4), "classes": 3, "axes": 2}
    if text:
        sizes |= {"classes": 0, "text_width": text.encoder.width, "text_length": text.length}
    head = CategoricalConfig(width=32, vocab=16, axes=2).build()
    torch.nn.init.normal_(head.output.weight, std=0.3)
    Generator(
        checkpoint.load("tokenizer"),
        TransformerConfig(**sizes).build(),
        [head],
        plan,
        classes=(() if text else CLASSES) if classes is None else classes,
        text=text,
        tokenizer_name=tokenizer.name,
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"],
    ).save(folder)
    return folder


def ten_pictures(side: int = 16) -> ImageSet:
    """A data set of ten pictures in two classes."""
    return ImageSet(
        name="ten",
        images=torch.arange(10 * side * side * 3).view(10, side, side, 3).to(torch.uint8),
        labels=torch.arange(10) % 2,
        classes=("even", "odd"),
        held_out=torch.arange(10) >= 8,
    )


def picture(path: Path, size: tuple[int, int] = (16, 16), seed: int = 0) -> Path:
    """A file with colored noise."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=random, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    """Pixels (H, W, 3) uint8 of a file."""
    return np.asarray(Image.open(path))


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by their relative paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
