"""DiT head: a small transformer that denoises a whole grid of continuous tokens together, conditioned token by token.

"Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots" (Hi-MAR, 2025), section 3.3; the blocks are
those of "Scalable Diffusion Models with Transformers" (2022), section 3.2, with a condition per token: the embedded
time plus the projected features. Decisions, all from the published code:

* every step denoises all tokens of the grid; those that exist already replace the noisy ones before every evaluation,
  with noise of that time, always the same;
* only the noise is predicted, and the solver adds the largest variance of its range;
* positions are fixed sines and cosines; modulations and the output start at zero.

The features are projected once per group (`prepare`) and the time is embedded once per solver step.

Shapes: R rows, n positions of the grid, C channels, D channels of the features, W channels of the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.canvas import CanvasConfig
from arzoo.core.contracts import Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.readouts import average_readouts
from arzoo.models.common.activations import gelu_tanh, silu
from arzoo.models.common.attention import Attention
from arzoo.models.common.embeddings import TimeEmbedding, time_tensor
from arzoo.models.common.initialise import xavier
from arzoo.models.heads.diffusion import Diffusion
from arzoo.samplers.solvers.diffusion import TIMESTEPS, noised, process, solver


@dataclass(frozen=True, kw_only=True)
class DiTConfig(CanvasConfig):
    """Sizes of a `DiT`.

    Attributes:
        width: Channels of the features.
        channels: Numbers per token.
        hidden: Channels of the head, a multiple of 4.
        depth: Blocks.
        heads: Attention heads.
        mlp_ratio: Width of the feed-forward layers over `hidden`.
        grid: (t, h, w) of the tokens that are drawn together; frames stand below each other like rows.
        repeats: Pairs of time and noise per picture and training step.
        head_steps: Solver steps where the settings give none.
    """

    width: int = 768
    channels: int = 16
    hidden: int = 512
    depth: int = 6
    heads: int = 8
    mlp_ratio: float = 4.0
    grid: tuple[int, int, int] = (1, 16, 16)
    repeats: int = 1
    head_steps: int = 250

    def __post_init__(self) -> None:
        if self.hidden % 4 or self.hidden % self.heads:
            raise ArzooError(
                f"hidden {self.hidden} must be a multiple of 4 and of the {self.heads} attention heads"
            )

    @property
    def layout(self) -> Grid:
        """Positions that are drawn together."""
        return Grid(*self.grid)

    def build(self) -> DiT:
        """Build a head that initially predicts zero noise."""
        return DiT(self)


class DiT(Diffusion):
    """Diffusion head over a whole grid."""

    config: DiTConfig
    joint = True
    needs = frozenset({"features", "full"})
    positions: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, width = config, config.hidden
        self.time = TimeEmbedding(width)
        self.condition = nn.Linear(config.width, width)
        self.input = nn.Linear(config.channels, width)
        self.register_buffer("positions", waves(config.layout, width), persistent=False)
        hidden = int(config.mlp_ratio * width)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads, hidden) for _ in range(config.depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, config.channels)
        if not self.output.weight.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Initialize as published: Xavier, the time embedding normal, modulations and output zero.

        The projection of the features keeps torch's initialization.
        """
        xavier(self)
        self.condition.reset_parameters()
        for layer in (self.time.fc1, self.time.fc2):
            nn.init.normal_(layer.weight, std=0.02)
        blocks = [block.modulation for block in self.blocks]
        for layer in (*blocks, self.modulation, self.output):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def prepare(self, read: Read) -> Read:
        """Turn to the whole grid, and project its features, which all solver steps share."""
        read = read if read.full is None else read.full
        return replace(read, prepared=self.condition(average_readouts(read)))

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict the noise (R, n, C) of noisy tokens x (R, n, C) at timestep t, one number or (R,)."""
        assert x is not None
        assert t is not None
        prepared = self.prepare(read).prepared if read.prepared is None else read.prepared
        assert prepared is not None
        time = self.time(time_tensor(t, x.device).reshape(-1, 1))
        condition = silu(prepared + time)
        y = self.input(x.to(condition.dtype)) + self.positions.to(condition.dtype)
        for block in self.blocks:
            y = block(y, condition)
        shift, scale = self.modulation(condition).chunk(2, -1)
        return self.output(normed(y) * (1 + scale) + shift).float()

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor:
        """Draw the tokens (B, n, C) of the whole grid; known ones keep their values.

        Raises:
            ArzooError: The solver is unknown or needs more steps.
        """
        settings = self.complete(settings)
        shape = draws.batch, self.config.layout.size, self.config.channels
        assert read.features is not None
        known = None if read.known is None else read.known[..., None]

        def noise() -> Tensor:
            assert read.features is not None
            return draws.normal(shape).to(read.features.device)

        first = noise()

        def predicted(x: Tensor, t: float) -> Tensor:
            if known is not None:
                x = torch.where(known, noised(read.values, first, t), x)  # type: ignore[arg-type]
            out = predict(x, t)
            return torch.cat([out, torch.ones_like(out)], -1)  # the upper end of the variance

        x = solver(settings.solver or "ddpm")(predicted, first, settings, noise)
        return x if known is None else torch.where(known, read.values, x)  # type: ignore[arg-type]

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the squared error of the noise (B, n), averaged over the repeats; all tokens of a picture have one t.

        Args:
            read: Features (B, n, H, D) of the whole grid.
            targets: (B, n, C).
            draws: Times and noises of the B samples.
        """
        if draws is None:
            raise TypeError("the loss of a diffusion head is random: give it draws")
        shape = len(targets), self.config.repeats
        t = draws.integers(shape, TIMESTEPS)
        noise = draws.normal((*shape, *targets.shape[1:])).to(targets.device)
        share = torch.from_numpy(process().alpha_bar)[t][..., None, None]
        data, rest = (root.sqrt().float().to(targets.device) for root in (share, 1 - share))
        noisy = data * targets[:, None] + rest * noise
        prepared = self.prepare(read).prepared
        assert prepared is not None
        prepared = prepared.repeat_interleave(shape[1], 0)
        out = self.predict(replace(read, prepared=prepared), noisy.flatten(0, 1), t.flatten())
        return (noise - out.unflatten(0, shape)).square().mean(-1).mean(1)


class DiTBlock(nn.Module):
    """Pre-norm block whose norms and residuals follow a condition per token (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, qkv_bias=True, proj_bias=True)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Apply the block to x (R, n, W), with the condition (R, n, W) after its activation."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, -1)
        x = x + gate1 * self.attention(normed(x) * (1 + scale1) + shift1, None, None)
        return x + gate2 * self.fc2(gelu_tanh(self.fc1(normed(x) * (1 + scale2) + shift2)))


def normed(x: Tensor) -> Tensor:
    """LayerNorm without gain over the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def waves(grid: Grid, width: int) -> Tensor:
    """Fixed positions (1, n, W) of a grid, as in "Masked Autoencoders Are Scalable Vision Learners" (2021).

    The first half of the channels says the column, the second one the row; each half is sines, then cosines.
    """
    order = torch.arange(width // 4, dtype=torch.float64)
    frame, row, column = grid.coords().double().unbind(1)
    coords = torch.stack([column, frame * grid.h + row], 1)[..., None]
    angles = coords * torch.exp(-math.log(10000) * order / (width // 4))
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1).float()[None]


@register("head")
def dit() -> DiTConfig:
    """A small transformer draws the whole grid together (Hi-MAR-B)."""
    return DiTConfig()


@register("head")
def dit_l() -> DiTConfig:
    """The same with 8 blocks (Hi-MAR-L)."""
    return DiTConfig(width=1024, depth=8)


@register("head")
def dit_h() -> DiTConfig:
    """The same with 12 blocks of 768 channels (Hi-MAR-H)."""
    return DiTConfig(width=1280, hidden=768, depth=12, heads=12)


@register("head")
def dit_tiny() -> DiTConfig:
    """The small transformer for 8 x 8 tokens of 8 channels that trains on a CPU."""
    return DiTConfig(
        width=192, channels=8, hidden=128, depth=3, heads=4, mlp_ratio=3.0, grid=(1, 8, 8), head_steps=50
    )
