"""Solvers of rectified flows: from noise at t = 1 to data at t = 0, x_t = (1 - t) data + t noise.

"Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", 2022. All solvers are pure
functions with the signature `solver(velocity, x, times, noise)`. The grid of times is chosen separately; models define
the one they were published with. The state is float64, the input of the network has the type of x.

Shapes: B samples, m positions, C channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, UnknownName

Velocity = Callable[[Tensor, float], Tensor]
"""`velocity(x, t)`: predicted noise minus data (B, m, C) for x (B, m, C) at time t."""
Noise = Callable[[], Tensor]
"""Fresh standard normal numbers (B, m, C) in float64."""
Grid = Callable[[int], Tensor]
"""`grid(n)`: float64 times of n head steps, falling from 1 to 0."""


def even(steps: int) -> Tensor:
    """n + 1 equally spaced times."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def until_004(steps: int) -> Tensor:
    """n equally spaced times from 1 to 0.04, then 0 (xAR, 2025): n network calls, the last without added noise."""
    return torch.cat([torch.linspace(1, 0.04, steps, dtype=torch.float64), torch.zeros(1).double()])


def denser_end(steps: int) -> Tensor:
    """FlowAR's grid: half of the times from 1 to 0.3, half from 0.25 to 0; 2 floor(n / 2) network calls.

    With the 50 steps of the largest model the grid is even, as published.
    """
    if steps == 50:
        return even(steps)
    half = steps // 2
    first, last = (
        torch.linspace(*ends, dtype=torch.float64) for ends in ((1, 0.3, half), (0.25, 0, half + 1))
    )
    return torch.cat([first, last])


def _intervals(times: Tensor) -> Iterator[tuple[float, float]]:
    return itertools.pairwise(times.tolist())


def euler(velocity: Velocity, x: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """Euler's method, with one network call per interval.

    Args:
        velocity: The velocity field.
        x: (B, m, C) noise.
        times: (n + 1,) from 1 to 0.
        noise: Not used.

    Returns:
        (B, m, C) data, in the type of x.
    """
    state = x.double()
    for t, after in _intervals(times):
        state = state + (after - t) * velocity(state.to(x.dtype), t).double()
    return state.to(x.dtype)


def heun(velocity: Velocity, x: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """Heun's second-order method, with two network calls per interval; arguments as in `euler`.

    The last interval is an Euler step ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022,
    algorithm 1), because networks are hardly trained at t = 0.
    """
    state = x.double()
    for t, after in _intervals(times):
        slope = velocity(state.to(x.dtype), t).double()
        ahead = state + (after - t) * slope
        if after > 0:
            slope = (slope + velocity(ahead.to(x.dtype), after).double()) / 2
        state = state + (after - t) * slope
    return state.to(x.dtype)


def euler_maruyama(velocity: Velocity, x: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """Euler-Maruyama for the reverse stochastic equation with squared diffusion 2t; arguments as in `euler`.

    The score is -((1 - t) v + x) / t, so the drift v - t score is v + (1 - t) v + x (xAR, 2025, section 3.3; "SiT:
    Exploring Flow and Diffusion-based Generative Models", 2024, section 2.3). The last interval adds no noise.
    """
    state = x.double()
    for t, after in _intervals(times):
        v = velocity(state.to(x.dtype), t).double()
        state = state + (v + (1 - t) * v + state) * (after - t)
        if after > 0:
            state = state + math.sqrt(2 * t) * math.sqrt(t - after) * noise().to(state.device)
    return state.to(x.dtype)


@dataclass(frozen=True)
class Solver:
    """A method with its grid of times and its smallest number of head steps.

    Attributes:
        name: Value of `Settings.solver`.
        integrate: The method.
        grid: Grid of times.
        least: Smallest number of head steps.
        order: Network calls per interval, except for the last one, an Euler step with a single call.
    """

    name: str
    integrate: Callable[[Velocity, Tensor, Tensor, Noise], Tensor]
    grid: Grid
    least: int = 1
    order: int = 1

    def calls(self, steps: int) -> int:
        """Network calls for a number of head steps. Raises as `times`."""
        return self.order * (len(self.times(steps)) - 2) + 1

    def times(self, steps: int) -> Tensor:
        """Times for a number of head steps.

        Raises:
            ArzooError: There are fewer steps than `least`.
        """
        if steps < self.least:
            raise ArzooError(
                f"solver {self.name!r} takes at least {self.least} head steps, got {steps}. Raise head_steps (if it is "
                "annealed, its late value) or choose another solver."
            )
        return self.grid(steps)


SOLVERS = {
    solver.name: solver
    for solver in (
        Solver("euler", euler, even),
        Solver("heun", heun, even, order=2),
        # With a single interval from pure noise to 0 or to 0.04, the discretisation error of the drift dominates.
        Solver("euler-maruyama", euler_maruyama, until_004, least=3),
    )
}


def flow_solver(name: str) -> Solver:
    """A solver by name.

    Raises:
        UnknownName: There is no such solver of flows.
    """
    if name not in SOLVERS:
        raise UnknownName("solver of flow heads", name, SOLVERS)
    return SOLVERS[name]
