"""Diffusion head: a small network that denoises one continuous token at a time, given the features of its position.

"Autoregressive Image Generation without Vector Quantization" (MAR, 2024), sections 3.2 and 4; the objective is that of
"Improved Denoising Diffusion Probabilistic Models" (2021), section 3.1. Decisions, all from the published code:

* the noise is guided, the variance is that of the conditional branch;
* the variational bound trains the variance only, as its gradient does not reach the predicted noise;
* modulations and the output start at zero.

The features are projected once per group (`prepare`), the time is embedded once per solver step, and the modulations of
all blocks are one product.

Shapes: R rows, m positions, C channels, D channels of the features, W channels of the network, K repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from arzoo.base.registry import register
from arzoo.core.canvas import CanvasConfig
from arzoo.core.contracts import Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.readouts import average_readouts
from arzoo.models.common.activations import silu
from arzoo.models.common.embeddings import TimeEmbedding, time_tensor
from arzoo.models.common.initialise import xavier
from arzoo.models.heads.residual import ResidualMLP
from arzoo.samplers.solvers.diffusion import NOISY, TIMESTEPS, evaluations, process, solver
from arzoo.samplers.solvers.diffusion_ahead import ddpm_ahead


@dataclass(frozen=True, kw_only=True)
class DiffusionMLPConfig(CanvasConfig):
    """Sizes of a `DiffusionMLP`.

    Attributes:
        width: Channels of the features.
        channels: Numbers per token.
        hidden: Channels of the head.
        depth: Residual blocks.
        repeats: Pairs of time and noise per token and training step (the batch multiplier).
        head_steps: Solver steps where the settings give none.
    """

    width: int = 768
    channels: int = 16
    hidden: int = 1024
    depth: int = 6
    repeats: int = 4
    head_steps: int = 100

    def build(self) -> DiffusionMLP:
        """Build a head that initially predicts zero noise."""
        return DiffusionMLP(self)


class Diffusion(Head):
    """What diffusion heads share: the knobs of their solvers; `head_steps` of the config is the default number."""

    discrete = False
    knobs = frozenset({"temperature", "head_steps", "solver", "max_timestep", "spacing"})

    def active_knobs(self, solver: str | None) -> frozenset[str]:
        """Return the knobs that have an effect: two of them are about the noise that only some solvers add."""
        return self.knobs if solver in NOISY else self.knobs - {"temperature", "head_window"}

    def noise_share(self, t: float) -> float:
        """Convert a timestep from 0 to 999 to a share of noise."""
        return t / (TIMESTEPS - 1)

    def evaluations(self, settings: Settings) -> int:
        """Count the solver steps, without those that a limit of timesteps removes; a window takes at most as many."""
        return evaluations(self.complete(settings))

    def complete(self, settings: Settings) -> Settings:
        """Return the settings with the head's own number of steps where none is given."""
        own: int = self.config.head_steps  # type: ignore[attr-defined]
        return replace(settings, head_steps=settings.head_steps or own)


class DiffusionMLP(Diffusion):
    """Diffusion head; tokens are independent given the features."""

    config: DiffusionMLPConfig
    knobs = Diffusion.knobs | {"head_window"}

    def __init__(self, config: DiffusionMLPConfig) -> None:
        super().__init__()
        self.config, width = config, config.hidden
        self.time = TimeEmbedding(width)
        self.condition = nn.Linear(config.width, width)
        self.input = nn.Linear(config.channels, width)
        self.blocks = nn.ModuleList(ResidualMLP(width) for _ in range(config.depth))
        self.modulation = nn.Linear(width, 3 * width * config.depth)
        self.final_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, 2 * config.channels)
        if not self.output.weight.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Initialize as published: Xavier, the time embedding normal, modulations and output zero."""
        xavier(self)
        for layer in (self.time.fc1, self.time.fc2):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.modulation, self.final_modulation, self.output):
            nn.init.zeros_(layer.weight)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its residual blocks."""
        return [*self.blocks]

    def prepare(self, read: Read) -> Read:
        """Project the features, which all solver steps share."""
        return replace(read, prepared=self.condition(average_readouts(read)))

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict noise and variance (R, m, 2 C) of noisy tokens x (R, m, C) at timestep t, one number or (R, m).

        Several states of each token, side by side as (R, m L, C), have timesteps (R or R / 2, m L).
        """
        assert x is not None
        assert t is not None
        prepared = self.prepare(read).prepared if read.prepared is None else read.prepared
        assert prepared is not None
        if not isinstance(t, Tensor):
            return self._denoise(x, prepared + self.time(time_tensor(t, x.device)))
        time, states = self._times(t), x.shape[1] // prepared.shape[1]
        return self._denoise(
            x, prepared.repeat_interleave(states, 1) + time.repeat(len(x) // len(time), 1, 1)
        )

    def _denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (..., 2 C) for noisy tokens (..., C) and the condition of time and features (..., W)."""
        condition, x = silu(condition), self.input(x)
        modulations = self.modulation(condition).chunk(len(self.blocks), -1)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation)
        shift, scale = self.final_modulation(condition).chunk(2, -1)
        return self.output(self.final_norm(x) * (1 + scale) + shift).float()

    def guide(self, conditional: Tensor, null: Tensor, scale: float) -> Tensor:
        """Return the guided noise and the conditional variance."""
        channels = self.config.channels
        noise = super().guide(conditional[..., :channels], null[..., :channels], scale)
        return torch.cat([noise, conditional[..., channels:]], -1)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor:
        """Draw tokens (B, m, C).

        Raises:
            ArzooError: The solver is unknown or needs more steps.
        """
        settings = self.complete(settings)
        shape = draws.batch, read.positions.shape[-1], self.config.channels
        device = read.positions.device if read.features is None else read.features.device

        def noise() -> Tensor:
            return draws.normal(shape).to(device)

        if settings.head_window > 1:
            return ddpm_ahead(predict, noise(), settings, draws)
        return solver(settings.solver or "ddpm")(predict, noise(), settings, noise)

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the loss (B, m): squared error of the noise plus the variational bound, averaged over the repeats."""
        error, bound = self.terms(read, targets, draws)
        return (error + bound).mean(1)

    def terms(self, read: Read, targets: Tensor, draws: Draws | None) -> tuple[Tensor, Tensor]:
        """Return the squared error of the noise and the variational bound in bits, (B, K, m) each.

        Args:
            read: Features of B rows.
            targets: (B, m, C).
            draws: Times and noises of the B samples.
        """
        if draws is None:
            raise TypeError("the loss of a diffusion head is random: give it draws")
        batch, count, channels = targets.shape
        shape = batch, self.config.repeats, count
        t = draws.integers(shape, TIMESTEPS).to(targets.device)
        noise = draws.normal((*shape, channels)).to(targets.device)
        data, full = targets[:, None], _Training(t)
        noisy = full.sqrt_alpha_bar * data + full.sqrt_noise * noise
        prepared = self.prepare(read).prepared
        assert prepared is not None
        out, share = self._denoise(noisy, prepared[:, None] + self._times(t)).chunk(2, -1)
        error = (noise - out).square().mean(-1)
        return error, full.bound(data, noisy, out.detach(), share)

    def _times(self, t: Tensor) -> Tensor:
        """Embed timesteps; where t has more entries than the process has timesteps, each timestep is embedded once."""
        if t.numel() <= TIMESTEPS or t.is_floating_point():
            return self.time(t)
        return self.time(torch.arange(TIMESTEPS, device=t.device))[t]


class _Training:
    """Coefficients of the full process at timesteps t (...), (..., 1) each, and the variational bound."""

    def __init__(self, t: Tensor) -> None:
        full = process()
        shares = full.alpha_bar**0.5, (1 - full.alpha_bar) ** 0.5
        table = torch.from_numpy(np.column_stack([*shares, full.coefficients()])).float()
        columns = table.to(t.device)[t].split(1, -1)
        self.first = t == 0
        self.sqrt_alpha_bar, self.sqrt_noise, self.to_data, self.to_noise, *columns = columns
        self.mean_data, self.mean_noisy, self.log_beta, self.log_posterior = columns

    def bound(self, data: Tensor, noisy: Tensor, noise: Tensor, share: Tensor) -> Tensor:
        """Return one term of the variational bound in bits, averaged over channels.

        The divergence of the predicted from the true posterior; at the first timestep the likelihood of the data, in
        bins of 2 / 255 as for 8-bit pixels.

        Args:
            data: Clean tokens (..., C).
            noisy: The same with noise.
            noise: Predicted noise.
            share: Predicted share of the variance range, in about [-1, 1].
        """
        share = (share + 1) / 2
        log_variance = share * self.log_beta + (1 - share) * self.log_posterior
        mean = self.mean_data * (self.to_data * noisy - self.to_noise * noise) + self.mean_noisy * noisy
        true = self.mean_data * data + self.mean_noisy * noisy
        distance = (true - mean).square() * torch.exp(-log_variance)
        ratio = self.log_posterior - log_variance
        divergence = 0.5 * (-1 - ratio + ratio.exp() + distance)
        surprise = -_log_likelihood(data, mean, log_variance)
        return torch.where(self.first, surprise.mean(-1), divergence.mean(-1)) / math.log(2)


def _log_likelihood(data: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-probability of the bin around `data` under a Gaussian; the outermost bins are open."""
    scale = torch.exp(-0.5 * log_variance)
    upper, lower = (_cdf(scale * (data - mean + edge / 255)) for edge in (1, -1))
    inside = (upper - lower).clamp(min=1e-12).log()
    bottom, top = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return torch.where(data < -0.999, bottom, torch.where(data > 0.999, top, inside))


def _cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function, approximated as published."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@register("head")
def diffusion_mlp() -> DiffusionMLPConfig:
    """MAR-B's diffusion head: 6 blocks, 1024 channels."""
    return DiffusionMLPConfig()


@register("head")
def diffusion_mlp_l() -> DiffusionMLPConfig:
    """MAR-L's diffusion head: 8 blocks, 1280 channels."""
    return DiffusionMLPConfig(width=1024, hidden=1280, depth=8)


@register("head")
def diffusion_mlp_h() -> DiffusionMLPConfig:
    """MAR-H's diffusion head: 12 blocks, 1536 channels."""
    return DiffusionMLPConfig(width=1280, hidden=1536, depth=12)


@register("head")
def diffusion_mlp_tiny() -> DiffusionMLPConfig:
    """A diffusion head that trains on a CPU: 3 blocks, 256 channels, one noise per token for speed."""
    return DiffusionMLPConfig(width=256, hidden=256, depth=3, repeats=1, head_steps=50)
