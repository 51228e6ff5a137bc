"""The head for discrete tokens of one code per position.

Shapes: R rows, m positions, H readouts, D width, V codes.
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
