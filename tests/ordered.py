"""Tiny tokenizers without a grid, of every family, with random weights that give every token a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.flextok import network as flextok
from arzoo.tokenizers.karl import network as karl
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.titok import network as titok
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

FLEXTOK = flextok.FlexTokConfig(
    image_size=16, patch=4, encoder=flextok.StackConfig(width=32, depth=1, heads=2),
    decoder=flextok.StackConfig(width=32, depth=1, heads=2), registers=8, levels=(4, 3), steps=3, guidance=2.0,
)  # fmt: skip
MASKGIT = MaskGITConfig(widths=(32, 32), blocks=1, channels=8, vocab=16)
KL = KLTokenizerConfig(
    image_size=16, widths=(32, 32), encoder_blocks=1, decoder_blocks=1, channels=4, encoder_attention="none",
    decoder_attention="none", scale=1.0,
)  # fmt: skip
KARL = karl.KarlConfig(
    image_size=16, base=MASKGIT, encoder=StackConfig(width=32, depth=1, heads=2),
    decoder=StackConfig(width=16, depth=1, heads=2), slots=12, table_slots=16, table_side=8, channels=4, vocab=32,
)  # fmt: skip
TITOK = titok.TiTokConfig(
    image_size=16, patch=4, encoder=StackConfig(width=32, depth=1, heads=2),
    decoder=StackConfig(width=16, depth=1, heads=2), tokens=6, channels=4, vocab=32,
    pixels=MaskGITConfig(widths=(32, 32, 32), blocks=1, channels=8, vocab=16), any_prefix=True,
)  # fmt: skip
TOKENIZERS = {
    "flextok": FLEXTOK,
    "flextok over latents": FLEXTOK.replace(patch=2, base=KL.to_dict()),
    "karl": KARL,
    "karl vectors over kl": KARL.replace(base={"class": "KLTokenizerConfig", **KL.to_dict()}, vocab=0),
    "titok": TITOK,
    "titok pixels": TITOK.replace(legacy=False, patch=4, unit=False),
    "titok vectors": TITOK.replace(legacy=False, vocab=0),
}


def pictures(count: int = 3) -> torch.Tensor:
    """Random clips of one frame, the same for all tests."""
    return torch.rand(count, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def build(config: Any) -> Any:
    """A tokenizer whose outputs are not zero, as they are at first."""
    torch.manual_seed(0)
    model = config.build().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.add_(0.3 * torch.randn_like(weight) / weight[0].numel() ** 0.5)
    return model


def tiny_prefixes(folder: Path, codes: int = 8) -> Path:
    """A tokenizer of 16 x 16 pictures, of whose codes any first ones make a picture."""
    return _saved(folder, build(FLEXTOK.replace(registers=codes)))


def tiny_ordered_generator(folder: Path, tokenizer: Path, classes: Sequence[str], group: int = 1) -> Path:
    """A generator over ordered tokens of the tokenizer beside it, `group` of them a step, with random weights."""
    checkpoint = open_checkpoint(tokenizer)
    torch.manual_seed(0)
    model = Generator.create(
        "raster_tiny", checkpoint.load("tokenizer"), "ordered", classes=classes, tokenizer_name=tokenizer.name,
        tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], plan_options={"group": group}, width=32, depth=1,
        heads=2,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.save(folder)
    return folder


def tiny_adaptive(folder: Path) -> Path:
    """A tokenizer of 16 x 16 pictures that keeps 0 to 12 codes, which depend on picture and quality."""
    model = build(KARL)
    with torch.no_grad():
        model.encoder.qualities.add_(torch.randn_like(model.encoder.qualities))
        model.encoder.halt2.weight.mul_(20)
        for weight in model.encoder.blocks.parameters():
            weight.mul_(6)
    return _saved(folder, model)


def _saved(folder: Path, tokenizer: Tokenizer) -> Path:
    save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    return folder
