"""The head for tokens of several codes per position, drawn one after another.

"Autoregressive Image Generation using Residual Quantization", 2022, section 3.2: a small causal transformer runs over
the codebooks of a position. LongCat-Next (2026, its published code) has a feed-forward layer for each depth, see
`DepthConfig.separate`. Its class for the end of a picture is left out: the size of the picture, which stands before it,
says how many positions there are, and no plan reads what comes after the last one.

Shapes: R rows, m positions, H readouts, D width, V codes, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.registry import register
from arzoo.core.canvas import CanvasConfig
from arzoo.core.contracts import Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.readouts import readout_shares
from arzoo.models.common.attention import Block
from arzoo.models.heads.categorical import draw_codes
from arzoo.models.heads.separate import SeparateBlock


@dataclass(frozen=True, kw_only=True)
class DepthConfig(CanvasConfig):
    """Sizes of a `Depth` head.

    Attributes:
        width: Channels of the features.
        vocab: Number of codes of each codebook.
        codebooks: Codes per position.
        axes: Readouts that predict a position together.
        layers: Transformer blocks over the codebooks.
        heads: Attention heads.
        separate: As in LongCat-Next: the input passes a norm and a projection, blocks have biases at queries, values
            and outputs, feed-forward layers with exact GELU of their own at each depth, and the logits have a bias.
    """

    width: int = 768
    vocab: int = 16384
    codebooks: int = 4
    axes: int = 1
    layers: int = 1
    heads: int = 4
    separate: bool = False

    def build(self) -> Depth:
        """Build a head with fresh weights."""
        return Depth(self)


class Depth(Head):
    """Several codes per position, drawn one after another.

    The first input of the transformer is the features, the next ones are running sums of the embeddings of the codes so
    far. Where several readouts predict a position (next-neighbor), each has a norm and a projection of its own, as in
    `Categorical`, and the first input is their average. Guidance acts at each depth, and both branches see the same
    codes.
    """

    config: DepthConfig
    discrete = True

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        width, axes = config.width, config.axes if config.axes > 1 else 0
        self.norms = nn.ModuleList(nn.RMSNorm(width, 1e-5) for _ in range(axes))
        self.readouts = nn.Linear(axes * width, width, bias=False) if axes else None
        self.embeddings = nn.ModuleList(
            nn.Embedding(config.vocab, width) for _ in range(config.codebooks - 1)
        )
        self.inputs: nn.Module = nn.Identity()
        if config.separate:
            self.inputs = nn.Sequential(nn.RMSNorm(width, 1e-6), nn.Linear(width, width, bias=False))
        self.blocks = nn.ModuleList(self._block() for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, 1e-5)
        self.outputs = nn.ModuleList(
            nn.Linear(width, config.vocab, bias=config.separate) for _ in range(config.codebooks)
        )

    def _block(self) -> nn.Module:
        config = self.config
        if config.separate:
            return SeparateBlock(config.width, config.heads, 2 * config.width, config.codebooks)
        return Block(config.width, config.heads, 2 * config.width, 1e-5)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def _first(self, read: Read) -> Tensor:
        """Return the first input (R, m, 1, D): the features, or the average over the readouts that are available."""
        assert read.features is not None
        if self.readouts is None:
            return read.features[:, :, :1]
        features = torch.stack([norm(read.features[:, :, i]) for i, norm in enumerate(self.norms)], 2)
        if read.available is None:
            features = features / len(self.norms)
        else:
            features = features * readout_shares(read.available, features)[..., None]
        return self.readouts(features.flatten(2))[:, :, None]

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Return logits (R, m, l + 1, V) given the first l codes x (R, m, l) of each position."""
        hidden = self._first(read)
        count = 0 if x is None else x.shape[-1]
        if x is not None and count:
            codes = [embed(x[..., i]) for i, embed in zip(range(count), self.embeddings, strict=False)]
            hidden = torch.cat([hidden, torch.stack(codes, 2).cumsum(2)], 2)
        rows = hidden.shape[:2]
        causal = torch.ones(count + 1, count + 1, dtype=torch.bool, device=hidden.device).tril()[None, None]
        y = self.inputs(hidden.flatten(0, 1))
        for block in self.blocks:
            y = block(y, None, causal)
        y = self.norm(y).unflatten(0, rows)
        return torch.stack([self.outputs[i](y[:, :, i]).float() for i in range(count + 1)], 2)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor:
        """Draw codes (B, m, Q)."""
        count = read.positions.shape[-1]
        codes = torch.zeros(draws.batch, count, 0, dtype=torch.long, device=read.positions.device)
        for _ in range(self.config.codebooks):
            new = draw_codes(predict(codes)[:, :, -1], settings, draws)
            codes = torch.cat([codes, new[..., None]], -1)
        return codes

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the cross-entropy (B, m), summed over the codebooks; targets (B, m, Q)."""
        logits = self.predict(read, targets[..., :-1])
        flat = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        return flat.view(targets.shape).sum(-1)


@register("head")
def depth() -> DepthConfig:
    """Several codebooks per position, drawn one after another."""
    return DepthConfig()
