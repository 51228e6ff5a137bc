"""Heads for discrete tokens: one code per position, or several codebooks drawn one after another.

Shapes: R rows, m positions, H readouts, D width, V codes, Q codebooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.canvas import CanvasConfig
from arzoo.core.contracts import Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.readouts import readout_shares
from arzoo.core.tokens import Mixed
from arzoo.models.common.attention import Block
from arzoo.samplers.filters import log_probabilities, probabilities


def draw_codes(logits: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """Draw codes (B, m) from logits (B, m, V) under the settings."""
    if settings.greedy:
        return logits.argmax(-1)
    return draws.categorical(probabilities(logits, settings))


def mixtures(
    logits: Tensor, probs: Tensor, done: float, temperature: float, table: Tensor, draws: Draws
) -> Tensor:
    """Draw mixtures (B, m, C) of the vectors of codes, by a softmax with Gumbel noise.

    "Categorical Reparameterization with Gumbel-Softmax", 2017, with the constants of VAR's `more_smooth`: the logits
    are doubled and the mixture sharpens towards the end of a run.

    Args:
        logits: (B, m, V), guided.
        probs: (B, m, V), zero for codes that are filtered out.
        done: Share of the run that is done.
        temperature: Divides the logits.
        table: (V, C) vectors of the codes.
        draws: Randomness.
    """
    noise = -(-draws.uniform(probs.shape).log()).log().to(logits)
    sharpness = max(0.27 * (1 - 0.95 * done), 0.005)
    logits = (logits / max(temperature, 1e-5)).masked_fill(probs == 0, -math.inf) * (1 + done)
    return ((logits + noise) / sharpness).softmax(-1) @ table


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig(CanvasConfig):
    """Sizes of a `Categorical` head.

    Attributes:
        width: Channels of the features.
        vocab: Number of codes.
        axes: Readouts whose predictions are averaged.
        norm_eps: Epsilon of the norm before the projection.
        plain: No norms, and a bias: the logits are linear in features that the backbone has normed (RAR, MaskGIT).
        bare: No norms and no bias (AiM).
        layer_norm: LayerNorm instead of RMSNorm (NBP).
        shift: Special ids before the codes in the vocabulary of the network (NBP). They take part in the softmax; one
            that is drawn is a negative code, and decoded as code 0.
    """

    width: int = 768
    vocab: int = 16384
    axes: int = 1
    norm_eps: float = 1e-5
    plain: bool = False
    bare: bool = False
    layer_norm: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if self.plain and self.bare:
            raise ArzooError("a plain head has a bias and a bare one has none: set one of both to false")

    def build(self) -> Categorical:
        """Build a head with a zero projection, whose loss starts at exactly ln(vocab)."""
        return Categorical(self)


class Categorical(Head):
    """Softmax over the codebook.

    Each readout has a norm and a projection of its own; a position averages the logits of the readouts available
    to it (NAR, 2025, section 3.3). The average is linear in the normed features, so all projections are one product.
    """

    config: CategoricalConfig
    discrete, scored, enumerates, mixes = True, True, True, True
    knobs = Head.knobs | {"more_smooth"}

    def __init__(self, config: CategoricalConfig) -> None:
        super().__init__()
        self.config = config
        self.enumerates = not config.shift  # probabilities of codes alone would not add up to 1
        norm = nn.LayerNorm if config.layer_norm else nn.RMSNorm
        self.norms = nn.ModuleList(
            nn.Identity() if config.plain or config.bare else norm(config.width, config.norm_eps)
            for _ in range(config.axes)
        )
        self.output = nn.Linear(config.axes * config.width, config.shift + config.vocab, bias=config.plain)
        if not self.output.weight.is_meta:
            for parameter in self.output.parameters():
                nn.init.zeros_(parameter)

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Return logits (R, m, V) in float32, averaged over the available readouts."""
        return self.output(self._normed(read)).float()

    def predict_guided(
        self, read: Read, scale: float, x: Tensor | None = None, t: Tensor | float | None = None
    ) -> Tensor:
        """Return guided logits (B, m, V).

        Everything after the norms is linear, so mixing there equals mixing logits and halves the largest product.
        """
        conditional, null = self._normed(read).float().chunk(2)
        return self.output(self.guide(conditional, null, scale).to(read.features.dtype)).float()

    def _normed(self, read: Read) -> Tensor:
        """Return the input of the projection, (R, m, axes * D)."""
        assert read.features is not None
        axes = [norm(read.features[:, :, i]) for i, norm in enumerate(self.norms)]
        if len(axes) > 1:
            axes = [axis * share for axis, share in zip(axes, self._shares(read, axes[0]), strict=True)]
        return torch.cat(axes, -1) if len(axes) > 1 else axes[0]

    def _shares(self, read: Read, like: Tensor) -> Sequence[Tensor | float]:
        if read.available is None:
            return [1 / self.config.axes] * self.config.axes
        return readout_shares(read.available, like)[..., None].unbind(-2)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor | Mixed:
        """Draw codes (B, m); positions are independent given the features.

        With `more_smooth` the mixture of codes is drawn after the code, from the same filtered logits; a greedy draw
        mixes nothing.
        """
        logits, done = predict(), settings.more_smooth
        if done is None or settings.greedy:
            return draw_codes(logits, settings, draws) - self.config.shift
        assert read.table is not None
        probs = probabilities(logits.clone(), settings)
        codes = draws.categorical(probs)
        return Mixed(codes, mixtures(logits, probs, done, settings.temperature, read.table, draws))

    def sample_scored(
        self, predict: Predict, read: Read, settings: Settings, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Draw codes (B, m); the score of a code is its guided logit, before temperature and filters."""
        logits = predict()
        codes = draw_codes(logits.clone(), settings, draws)  # the filters overwrite logits
        return codes - self.config.shift, logits.gather(-1, codes[..., None])[..., 0]

    def log_probs(self, predict: Predict, settings: Settings) -> Tensor:
        """Return the log-probabilities (B, m, V) of the tokenizer's codes."""
        return log_probabilities(predict(), settings)

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the cross-entropy (B, m) in nats."""
        logits = self.predict(read)
        flat = F.cross_entropy(
            logits.flatten(0, 1), (targets + self.config.shift).flatten(), reduction="none"
        )
        return flat.view(targets.shape)


@dataclass(frozen=True, kw_only=True)
class DepthConfig(CanvasConfig):
    """Sizes of a `Depth` head.

    Attributes:
        width: Channels of the features.
        vocab: Number of codes of each codebook.
        codebooks: Codes per position.
        layers: Transformer blocks over the codebooks.
        heads: Attention heads.
    """

    width: int = 768
    vocab: int = 16384
    codebooks: int = 4
    layers: int = 1
    heads: int = 4

    def build(self) -> Depth:
        """Build a head with fresh weights."""
        return Depth(self)


class Depth(Head):
    """Several codes per position, drawn one after another.

    "Autoregressive Image Generation using Residual Quantization" (2022), section 3.3: a small causal transformer runs
    over the codebooks: its first input is the features, the next inputs are running sums of the embeddings of the codes
    so far. Guidance acts at each depth, and both branches see the same codes.
    """

    config: DepthConfig
    discrete = True

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embeddings = nn.ModuleList(
            nn.Embedding(config.vocab, width) for _ in range(config.codebooks - 1)
        )
        self.blocks = nn.ModuleList(Block(width, config.heads, 2 * width, 1e-5) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, 1e-5)
        self.outputs = nn.ModuleList(
            nn.Linear(width, config.vocab, bias=False) for _ in range(config.codebooks)
        )

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Return logits (R, m, l + 1, V) given the first l codes x (R, m, l) of each position."""
        assert read.features is not None
        hidden = read.features[:, :, :1]
        count = 0 if x is None else x.shape[-1]
        if x is not None and count:
            codes = [embed(x[..., i]) for i, embed in zip(range(count), self.embeddings, strict=False)]
            hidden = torch.cat([hidden, torch.stack(codes, 2).cumsum(2)], 2)
        rows = hidden.shape[:2]
        causal = torch.ones(count + 1, count + 1, dtype=torch.bool, device=hidden.device).tril()[None, None]
        y = hidden.flatten(0, 1)
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
def categorical() -> CategoricalConfig:
    """Softmax over one codebook."""
    return CategoricalConfig()


@register("head")
def categorical_plain() -> CategoricalConfig:
    """Softmax over one codebook, linear in features that the backbone has normed."""
    return CategoricalConfig(plain=True)


@register("head")
def categorical_bare() -> CategoricalConfig:
    """Softmax over one codebook, linear without a bias in features that the backbone has normed."""
    return CategoricalConfig(bare=True)


@register("head")
def categorical_layer_norm() -> CategoricalConfig:
    """Softmax over one codebook, after a LayerNorm."""
    return CategoricalConfig(layer_norm=True)


@register("head")
def depth() -> DepthConfig:
    """Several codebooks per position, drawn one after another."""
    return DepthConfig()
