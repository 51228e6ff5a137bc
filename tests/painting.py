"""A tokenizer that paints, a generator of its pictures, and verifiers, for tests of value models."""

from dataclasses import dataclass

import torch
from command import CLASSES, tiny_generator

from arzoo.base.config import Config
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import TokenSpec
from arzoo.generation.generator import Generator
from arzoo.samplers.verifiers.base import PictureVerifier
from arzoo.train.recipe import Recipe

PACE = {
    "steps": 120,
    "batch": 32,
    "log_every": 20,
    "preview_every": 1000,
    "save_every": 60,
    "trackers": [],
}


@dataclass(frozen=True, kw_only=True)
class PaintConfig(Config):
    """A tokenizer of 16 x 16 pictures or clips without an encoder: a code is the brightness of 4 x 4 pixels."""

    frames: int = 1

    def build(self):
        return Paint(self)


class Paint(Tokenizer):
    image_size = (16, 16)

    def __init__(self, config):
        super().__init__()
        self.frames, self.spec = (
            config.frames,
            TokenSpec(Grid(config.frames, 4, 4), vocab=16, downscale=(1, 4, 4)),
        )
        self.config, self.black = config, torch.nn.Parameter(torch.tensor(-1.0))

    def decode(self, tokens, **options):
        grid = self.black + tokens.values.view(-1, 1, self.config.frames, 4, 4) * (2 / 15)
        return grid.repeat_interleave(4, 3).repeat_interleave(4, 4).expand(-1, 3, -1, -1, -1)


def clip_painter(folder, frames=4, fps=None):
    """A generator of clips of such frames beside its tokenizer, with random weights."""
    tokenizer = Paint(PaintConfig(frames=frames))
    save_parts(folder / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    weights = open_checkpoint(folder / "tok").parts["tokenizer"]["weights"]
    torch.manual_seed(0)
    model = Generator.create(
        "nar_tiny", tokenizer, "next_neighbor", classes=CLASSES, tokenizer_name="tok", tokenizer_hash=weights, width=32,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.fps = fps or model.fps
    model.save(folder / "gen")
    return folder / "gen"


def painter(folder, seed=0):
    """A generator of such pictures, with random weights of a size at which features tell the tokens before."""
    tokenizer = Paint(PaintConfig())
    save_parts(folder / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    tiny_generator(folder / "gen", folder / "tok", seed)
    model = Generator.load(folder / "gen")
    with torch.no_grad():
        for weight in model.backbone.blocks.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
        model.backbone.token.weight.mul_(8)
    model.save(folder / "gen")


class Red(PictureVerifier):
    """How red a picture is."""

    name, networks = "red", frozenset({"eye"})

    def __init__(self, subject, gain: float = 1.0):
        self.gain = gain

    def score_images(self, images):
        return self.gain * images[..., 0].float().flatten(1).mean(1) / 255


class Blue(Red):
    """How blue a picture is, as another network sees it."""

    name, networks = "blue", frozenset({"other eye"})

    def score_images(self, images):
        return self.gain * images[..., 2].float().flatten(1).mean(1) / 255


def value_recipe(folder, **changes):
    whole = {
        "task": "value", "model": {"name": "token_value", "hidden": 32, "depth": 1, "dropout": 0.0},
        "value": {"generator": str(folder / "gen"), "rollouts": 300}, "verifier": "red",
        "optim": {"warmup": 5, "ema": 0.9, "lr": 1e-2}, "run": PACE,
    }  # fmt: skip
    return Recipe.from_dict(whole).replace(**changes)
