"""Solvers of the discrete cosine diffusion process: DDPM with a learned range of variances, DDIM, DPM-Solver.

Papers: "Improved Denoising Diffusion Probabilistic Models" (2021), sections 3.1 to 3.3, for the process, the learned
range and respacing; "Denoising Diffusion Implicit Models" (2020), section 4.1; "DPM-Solver" (2022), section 3;
"DPM-Solver++" (2022), section 4; "DiSA: Diffusion Step Annealing in Autoregressive Image Generation" (2025) for the
clip of timesteps.

Why not the schedulers of diffusers: they draw noise from one torch generator for the whole batch, where here a sample's
noise is a function of its own seed (`Draws`) and scaled by a temperature; their DDIM finds the previous timestep by
subtraction, which is not the one before in a clipped or evenly spread set; their DPM-Solver evaluates the network at
whole timesteps, the published one in between.

Every solver has the signature of `Solver`. The network sees timesteps of the full process, 0..999; predictions are
(..., 2 C): noise, then for DDPM the share of the variance range in [-1, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.control import Settings

TIMESTEPS = 1000
"""Steps of the process that heads are trained on."""

Predict = Callable[[Tensor, float], Tensor]
Noise = Callable[[], Tensor]
Solver = Callable[[Predict, Tensor, Settings, Noise], Tensor]
"""`solver(predict, x, settings, noise)`: from noise x (..., C) to data; `noise()` is fresh noise of the same shape."""


def _alpha_bar() -> NDArray[np.float64]:
    """Share of the signal's variance behind each step of the cosine process (iDDPM, section 3.2)."""
    u = np.arange(TIMESTEPS + 1) / TIMESTEPS
    cosine = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - cosine[1:] / cosine[:-1], 0.999))


@dataclass(frozen=True, eq=False)
class Process:
    """A diffusion process over some of the 1000 timesteps; arrays in float64, one entry a kept timestep, ascending.

    Attributes:
        timesteps: Which are kept.
        alpha_bar: Share of the signal's variance.
        alpha_bar_before: The same one kept step earlier, 1 before the first.
        beta: Variance that a step adds, 1 - alpha_bar / alpha_bar_before.
        log_beta: Its logarithm, the upper end of the learned range.
        log_posterior: Logarithm of the posterior's variance, the lower end; the first entry, minus infinity, takes the
            value of the second one.
        mean_data: Weight of the data in the posterior's mean.
        mean_noisy: Weight of the noisy token.
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
        """The process that visits these timesteps only; coefficients follow from its own betas."""
        alpha_bar = _alpha_bar()[list(timesteps)]
        before = np.append(1.0, alpha_bar[:-1])
        beta = 1 - alpha_bar / before
        posterior = beta * (1 - before) / (1 - alpha_bar)
        posterior[0] = (
            posterior[min(1, len(posterior) - 1)] or 1.0
        )  # a lone step has no range, and needs none
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


def even(count: int) -> list[int]:
    """Timesteps spread evenly from 0 to 999, rounded (iDDPM, section 4); a running sum, as published."""
    stride = (TIMESTEPS - 1) / max(count - 1, 1)
    steps, place = [], 0.0
    for _ in range(count):
        steps.append(round(place))
        place += stride
    return steps


def stride(count: int) -> list[int]:
    """Every n-th timestep from 0 on for the first whole n that gives `count` of them (DDIM, appendix D.2).

    Where no n does over 1000 timesteps, the range is shortened until one does.
    """
    for top in range(TIMESTEPS, 0, -1):
        for step in range(max(top // count - 1, 1), -(-top // count) + 1):
            if len(range(0, top, step)) == count:
                return list(range(0, top, step))
    raise ArzooError(f"head steps must be 1 to {TIMESTEPS}, got {count}")


SPACINGS: dict[str, Callable[[int], list[int]]] = {"even": even, "stride": stride}


@functools.cache
def process(count: int = TIMESTEPS, max_timestep: int | None = None, spacing: str = "even") -> Process:
    """The process respaced to some steps.

    Args:
        count: Steps to keep.
        max_timestep: Timesteps above it are replaced by it and merged (DiSA: 950), so fewer than `count` may remain.
        spacing: "even" or "stride".

    Raises:
        ArzooError: A number is out of range.
        UnknownName: There is no such spacing.
    """
    if not 1 <= count <= TIMESTEPS:
        raise ArzooError(
            f"a diffusion head takes 1 to {TIMESTEPS} head steps, got {count}. An annealed schedule ends above 0, for "
            "example 50:5."
        )
    if max_timestep is not None and not 1 <= max_timestep < TIMESTEPS:
        raise ArzooError(
            f"max_timestep must be 1 to {TIMESTEPS - 1}, got {max_timestep}; leave it out for no clip"
        )
    if spacing not in SPACINGS:
        raise UnknownName("spacing of head steps", spacing, SPACINGS)
    last = TIMESTEPS - 1 if max_timestep is None else max_timestep
    return Process.of(tuple(sorted({min(step, last) for step in SPACINGS[spacing](count)})))


def ddpm(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """Ancestral sampling with learned variances (iDDPM, section 3.1); `temperature` scales the noise of the steps."""
    steps = _steps(settings)
    for i in reversed(range(len(steps.timesteps))):
        out = predict(x, steps.timesteps[i])
        data = _data(x, out, steps.alpha_bar[i])
        x = float(steps.mean_data[i]) * data + float(steps.mean_noisy[i]) * x
        if i:
            share = (out[..., x.shape[-1] :] + 1) / 2
            log_variance = share * float(steps.log_beta[i]) + (1 - share) * float(steps.log_posterior[i])
            x = x + (0.5 * log_variance).exp() * noise() * settings.temperature
    return x


def ddim(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """DDIM without noise (section 4.1, eta 0). Temperature has no effect."""
    steps = _steps(settings)
    for i in reversed(range(len(steps.timesteps))):
        out = predict(x, steps.timesteps[i])
        before = float(steps.alpha_bar_before[i])
        data = _data(x, out, steps.alpha_bar[i])
        x = math.sqrt(before) * data + math.sqrt(1 - before) * out[..., : x.shape[-1]]
    return x


def dpm_solver(predict: Predict, x: Tensor, settings: Settings, noise: Noise) -> Tensor:
    """DPM-Solver of order 1 over evenly spaced continuous times. Temperature has no effect.

    At order 1 predicting noise (DPM-Solver, equation 3.7) and predicting data (DPM-Solver++, equation 9) is the same
    update. The grid is that of DiSA's code: times run from the last timestep to just above 1, and log alpha is
    interpolated between the timesteps, which lie spread over them as if the first were at time 0.
    """
    process(settings.head_steps, settings.max_timestep)  # refuses the same numbers as the other solvers do
    last = TIMESTEPS - 1 if settings.max_timestep is None else settings.max_timestep
    times = np.linspace(last, TIMESTEPS / (last + 1), settings.head_steps + 1)
    place = times * (last + 1) / last - 1
    log_alpha = np.interp(place, np.arange(TIMESTEPS), 0.5 * np.log(_alpha_bar()))
    alpha, sigma = np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha))
    for i in range(settings.head_steps):
        data = _data(x, predict(x, float(times[i])), alpha[i] ** 2)
        kept = float(sigma[i + 1] / sigma[i])
        x = kept * x + float(alpha[i + 1] - alpha[i] * kept) * data
    return x


def _steps(settings: Settings) -> Process:
    """The process under the settings.

    Raises:
        ArzooError: Fewer than two steps remain. The only one would be timestep 0, which takes noise for data.
    """
    steps = process(settings.head_steps, settings.max_timestep, settings.spacing)
    if len(steps.timesteps) < 2:
        raise ArzooError(
            f"solvers 'ddpm' and 'ddim' need at least 2 head steps, got {settings.head_steps}. Use more, or solver "
            "'dpm_solver', which can do with 1."
        )
    return steps


def _data(x: Tensor, out: Tensor, alpha_bar: float) -> Tensor:
    """The clean token that noisy x and its predicted noise stand for; not clamped, as published."""
    return x * math.sqrt(1 / alpha_bar) - out[..., : x.shape[-1]] * math.sqrt(1 / alpha_bar - 1)


SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm_solver": dpm_solver,
    "dpm_solver++": dpm_solver,
}

NOISY = frozenset({None, "ddpm"})
"""Those that add noise in their steps; None is a head's own."""


def solver(name: str) -> Solver:
    """A solver by name.

    Raises:
        UnknownName: A diffusion head has no such solver.
    """
    if name not in SOLVERS:
        raise UnknownName("solver of a diffusion head", name, SOLVERS)
    return SOLVERS[name]


def evaluations(settings: Settings) -> int:
    """How often a solver runs the network for one group; fewer than `head_steps` where a clip merges timesteps.

    Raises:
        UnknownName: A diffusion head has no such solver or spacing.
        ArzooError: A number of the settings is out of range.
    """
    if solver(settings.solver or "ddpm") is dpm_solver:
        process(settings.head_steps, settings.max_timestep)
        return settings.head_steps
    return len(_steps(settings).timesteps)
