"""A tokenizer of tiny clips whose first frame stands alone, and a generator of its tokens."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn

from arzoo.base.config import Config
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.generator import Generator

FRAMES, SIDE, LEVELS = 9, 8, 16


@dataclass(frozen=True)
class GreyConfig(Config):
    causal: bool = True

    def build(self):
        return Grey(self)


class Grey(Tokenizer):
    """The brightness of 4 x 4 pixels, of one frame at first and then of 4 frames, in 16 levels."""

    def __init__(self, config):
        super().__init__()
        self.config, self.image_size, self.frames = config, (SIDE, SIDE), FRAMES
        self.strictly_causal = config.causal
        self.spec = TokenSpec(Grid(3, 2, 2), vocab=LEVELS, downscale=(4, 4, 4), first_alone=True)
        self.scale = nn.Parameter(torch.ones(()))
        self.seen = []

    def encode(self, x):
        self.seen.append(x.clone())
        layout = self.spec.layout_of(x.shape[2:])
        whole = torch.cat([x[:, :, :1].expand(-1, -1, 3, -1, -1), x], 2)
        cells = rearrange(whole, "b c (t f) (h p) (w q) -> b (t h w) (c f p q)", f=4, p=4, q=4).mean(2)
        codes = ((cells + 1) / 2 * (LEVELS - 1)).round().long()
        return Tokens.of(codes, layout=layout)

    def decode(self, tokens):
        layout = self.spec.require(tokens)
        grey = tokens.values.float() / (LEVELS - 1) * 2 - 1
        frames = rearrange(grey, "b (t h w) -> b 1 t h w", t=layout.t, h=layout.h)
        clip = frames.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
        return clip[:, :, 3:].expand(-1, 3, -1, -1, -1)


def generator(tokenizer, weights="0"):
    """A generator of its tokens, with random weights."""
    return Generator.create(
        "raster_tiny",
        tokenizer,
        "raster",
        classes=["a", "b"],
        tokenizer_name="grey",
        tokenizer_hash=weights,
        width=32,
        depth=2,
        heads=2,
    )


def clip(frames=FRAMES, seed=0):
    """A clip of noise."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, frames, SIDE, SIDE, 3), dtype=torch.uint8, generator=rng)


def saved(folder, fps=4.0):
    """A saved generator."""
    tokenizer = Grey(GreyConfig())
    save_parts(folder / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    torch.manual_seed(0)
    model = generator(tokenizer, open_checkpoint(folder / "tok").parts["tokenizer"]["weights"])
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.tokenizer_name, model.fps = "tok", fps
    model.save(folder / "gen")
    return folder / "gen"
