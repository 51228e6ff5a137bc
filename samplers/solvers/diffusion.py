"""Solvers of the discrete cosine diffusion process: DDPM with learned variances, DDIM, DPM-Solver.

Papers: "Improved Denoising Diffusion Probabilistic Models" (2021), sections 3.1 to 3.3, for the process, the learned
variances and respacing; "Denoising Diffusion Implicit Models" (2020), section 4.1; "DPM-Solver" (2022), section 3;
"DPM-Solver++" (2022), section 4; "DiSA: Diffusion Step Annealing in Autoregressive Image Generation" (2025) for the
clipping of timesteps.

Why not the schedulers of diffusers: they draw noise from one torch generator for the whole batch, whereas here the
noise of a sample depends on its own seed (`Draws`) and is scaled by a temperature; their DDIM computes the previous
timestep by subtraction, which is wrong for a clipped or evenly spread set; their DPM-Solver evaluates the network at
integer timesteps, the published one also between them.

Every solver has the signature of `Solver`. The network sees timesteps of the full process, 0..999; predictions are
(..., 2 C): noise, then for DDPM the share of the variance range in [-1, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import Settings
from arzoo.samplers.speculative.normals import Normal

TIMESTEPS = 1000
"""Steps of the process that heads are trained on."""

Predict = Callable[[Tensor, float], Tensor]
Noise = Callable[[], Tensor]
Solver = Callable[[Predict, Tensor, Settings, Noise], Tensor]
"""`solver(predict, x, settings, noise)`: from noise x (..., C) to data; `noise()` is fresh noise of the same shape."""


def _alpha_bar() -> NDArray[np.float64]:
    """Share of the signal's variance after each step of the cosine process (iDDPM, section 3.2)."""
    u = np.arange(TIMESTEPS + 1) / TIMESTEPS
    cosine = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - cosine[1:] / cosine[:-1], 0.999))


@dataclass(frozen=True, eq=False)
class Process:
    """A diffusion process over some of the 1000 timesteps; float64 arrays with one entry per kept timestep, ascending.

    Attributes:
        timesteps: Kept timesteps.
        alpha_bar: Share of the signal's variance.
        alpha_bar_before: The same one kept step earlier, 1 before the first.
        beta: Variance added by a step, 1 - alpha_bar / alpha_bar_before.
        log_beta: Logarithm of beta, the upper end of the learned log-variance.
        log_posterior: Logarithm of the posterior's variance, the lower end; the first entry, minus infinity, is
            replaced by the second.
        mean_data: Weight of the data in the posterior's mean.
        mean_noisy: Weight of the noisy token in the posterior's mean.
    """

    timesteps: tuple[int, ...]
    alpha_bar: NDArray[np.float64]
    alpha_bar_before: NDArray[np.float64]
    beta: NDArray[np.float64]
    log_beta: NDArray[np.float64]
    log_posterior: NDArray[np.float64]
    mean_data: NDArray[np.float64]
    mean_noisy: NDArray[np.float64]

    @staticmethod
    def of(timesteps: tuple[int, ...]) -> Process:
        """Process over these timesteps only, with coefficients from its own betas."""
        alpha_bar = _alpha_bar()[list(timesteps)]
        before = np.append(1.0, alpha_bar[:-1])
        beta = 1 - alpha_bar / before
        posterior = beta * (1 - before) / (1 - alpha_bar)
        # A single step has no range of variances and needs none.
        posterior[0] = posterior[min(1, len(posterior) - 1)] or 1.0
        return Process(
            timesteps,
            alpha_bar,
            before,
            beta,
            np.log(beta),
            np.log(posterior),
            beta * np.sqrt(before) / (1 - alpha_bar),
            (1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
        )

    def coefficients(self) -> NDArray[np.float64]:
        """Coefficients of `posterior`, one row per kept timestep, (K, 6); no tensor, since their values are read."""
        columns = (
            np.sqrt(1 / self.alpha_bar), np.sqrt(1 / self.alpha_bar - 1), self.mean_data, self.mean_noisy,
            self.log_beta, self.log_posterior,
        )  # fmt: skip
        return np.stack(columns, 1)


def even(count: int) -> list[int]:
    """Timesteps spread evenly from 0 to 999 and rounded (iDDPM, section 4); computed by a running sum, as published."""
    stride = (TIMESTEPS - 1) / max(count - 1, 1)
    steps, position = [], 0.0
    for _ in range(count):
        steps.append(round(position))
        position += stride
    return steps


def stride(count: int) -> list[int]:
    """Every n-th timestep from 0, for the smallest n that gives `count` of them (DDIM, appendix D.2).

    If no n does for 1000 timesteps, the range is shortened until one does.
    """
    for top in range(TIMESTEPS, 0, -1):
        for step in range(max(top // count - 1, 1), -(-top // count) + 1):
            if len(range(0, top, step)) == count:
                return list(range(0, top, step))
    raise ArzooError(f"head steps must be 1 to {TIMESTEPS}, got {count}")


SPACINGS: dict[str, Callable[[int], list[int]]] = {"even": even, "stride": stride}


@functools.cache
def process(count: int = TIMESTEPS, max_timestep: int | None = None, spacing: str = "even") -> Process:
    """The process respaced to a number of steps.

    Args:
        count: Number of steps.
        max_timestep: Later timesteps are replaced by this one and merged (DiSA: 950), so fewer than `count` may remain.
        spacing: "even" or "stride".

    Raises:
        ArzooError: `count` or `max_timestep` is out of range.
        UnknownName: There is no such spacing.
    """
    if not 1 <= count <= TIMESTEPS:
        raise ArzooError(
            f"a diffusion head takes 1 to {TIMESTEPS} head steps, got {count}. An annealed schedule must end above 0, "
            "for example 50:5."
        )
    if max_timestep is not None and not 1 <= max_timestep < TIMESTEPS:
        raise ArzooError(
            f"max_timestep must be 1 to {TIMESTEPS - 1}, got {max_timestep}; leave it out for no clipping"
        )
    if spacing not in SPACINGS:
        raise UnknownName("spacing of head steps", spacing, SPACINGS)
    last = TIMESTEPS - 1 if max_timestep is None else max_timestep
    return Process.of(tuple(sorted({min(step, last) for step in SPACINGS[spacing](count)})))


def noised(data: Tensor, noise: Tensor, t: float) -> Tensor:
    """Data with the noise of timestep t, which may lie between two timesteps."""
    share = float(np.interp(t, np.arange(TIMESTEPS), process().alpha_bar))
    return math.sqrt(share) * data + math.sqrt(1 - share) * noise


def posterior(x: Tensor, out: Tensor, row: Sequence[float] | Sequence[Tensor]) -> Normal:
    """Law of the next state of ancestral sampling with a learned variance (iDDPM, section 3.1).

    Args:
        x: States (..., C).
        out: Predictions (..., 2 C) for them.
        row: The coefficients of their timestep; numbers, or (..., 1) where states have timesteps of their own.
    """
    to_data, to_noise, mean_data, mean_noisy, log_beta, log_posterior = row
    noise, share = out.chunk(2, -1)
    share = (share + 1) / 2
    data = x * to_data - noise * to_noise  # not clamped, as published
    deviation = (0.5 * (share * log_beta + (1 - share) * log_posterior)).exp()
    return Normal(mean_data * data + mean_noisy * x, deviation)


def ddpm(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """Ancestral sampling with learned variances (iDDPM, section 3.1); `temperature` scales the noise of the steps."""
    steps = kept_steps(settings)
    for t, row in zip(reversed(steps.timesteps), reversed(steps.coefficients().tolist()), strict=True):
        law = posterior(x, predict(x, t), row)
        x = law.mean if t == steps.timesteps[0] else law.mean + law.deviation * noise() * settings.temperature
    return x


def ddim(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """DDIM without noise (section 4.1, eta 0). Temperature has no effect."""
    steps = kept_steps(settings)
    for i in reversed(range(len(steps.timesteps))):
        out = predict(x, steps.timesteps[i])
        before = float(steps.alpha_bar_before[i])
        data = _data(x, out, steps.alpha_bar[i])
        x = math.sqrt(before) * data + math.sqrt(1 - before) * out[..., : x.shape[-1]]
    return x


def dpm_solver(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """DPM-Solver of order 1 over evenly spaced continuous times. Temperature has no effect.

    At order 1, predicting noise (DPM-Solver, equation 3.7) and predicting data (DPM-Solver++, equation 9) give the same
    update. The grid is that of DiSA's code: times run from the last timestep to just above 1, and log alpha is
    interpolated between the timesteps as if the first were at time 0.
    """
    process(settings.head_steps, settings.max_timestep)  # refuses the same numbers as the other solvers do
    last = TIMESTEPS - 1 if settings.max_timestep is None else settings.max_timestep
    times = np.linspace(last, TIMESTEPS / (last + 1), settings.head_steps + 1)
    index = times * (last + 1) / last - 1
    log_alpha = np.interp(index, np.arange(TIMESTEPS), 0.5 * np.log(_alpha_bar()))
    alpha, sigma = np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha))
    for i in range(settings.head_steps):
        data = _data(x, predict(x, float(times[i])), alpha[i] ** 2)
        ratio = float(sigma[i + 1] / sigma[i])
        x = ratio * x + float(alpha[i + 1] - alpha[i] * ratio) * data
    return x


def kept_steps(settings: Settings) -> Process:
    """The process of the settings of a solver in discrete steps.

    Raises:
        ArzooError: Fewer than two steps remain. A single one would be timestep 0, where pure noise passes for data.
    """
    steps = process(settings.head_steps, settings.max_timestep, settings.spacing)
    if len(steps.timesteps) < 2:
        raise ArzooError(
            f"solvers 'ddpm' and 'ddim' need at least 2 head steps, got {settings.head_steps}. Use more, or solver "
            "'dpm_solver', which needs only 1."
        )
    return steps


def _data(x: Tensor, out: Tensor, alpha_bar: float) -> Tensor:
    """Clean token computed from noisy x and its predicted noise; not clamped, as published."""
    return x * math.sqrt(1 / alpha_bar) - out[..., : x.shape[-1]] * math.sqrt(1 / alpha_bar - 1)


SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm_solver": dpm_solver,
    "dpm_solver++": dpm_solver,
}

NOISY = frozenset({None, "ddpm"})
"""Solvers that add noise in their steps; None is the head's own solver."""


def solver(name: str) -> Solver:
    """A solver by name.

    Raises:
        UnknownName: A diffusion head has no such solver.
    """
    if name not in SOLVERS:
        raise UnknownName("solver of a diffusion head", name, SOLVERS)
    return SOLVERS[name]


def evaluations(settings: Settings) -> int:
    """Number of network calls for one group; below `head_steps` if `max_timestep` merges timesteps.

    Raises:
        UnknownName: A diffusion head has no such solver or spacing.
        ArzooError: `head_steps` or `max_timestep` is out of range, or a window of states is combined with what it
            cannot be.
    """
    if settings.head_window > 1 and settings.interval is not None:
        raise ArzooError(
            f"head_window {settings.head_window} evaluates states at different shares of noise together, so guidance "
            f"cannot be limited to the shares {settings.interval}. Leave out one of the two."
        )
    if solver(settings.solver or "ddpm") is dpm_solver:
        process(settings.head_steps, settings.max_timestep)
        return settings.head_steps
    return len(kept_steps(settings).timesteps)
