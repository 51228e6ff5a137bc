"""Solvers of flows: grids of times, orders of convergence, distributions, and too few steps."""

import itertools
import math

import pytest
import torch

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.contracts import Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.models.common.modulation import time_index
from arzoo.models.heads.flow import BackboneFlowConfig, FlowMLPConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.samplers import schedules
from arzoo.samplers.solvers.flow import (
    SOLVERS,
    denser_end,
    euler,
    euler_maruyama,
    flow_solver,
    heun,
    until_004,
)


def gaussian(mean, deviation):
    """The velocity field of data that is normal with a mean and a deviation."""

    def velocity(x, t):
        a, variance = 1 - t, (1 - t) ** 2 * deviation**2 + t**2
        residual = x - a * mean
        return (t - a * deviation**2) / variance * residual - mean

    return velocity


def test_published_grids():
    assert denser_end(6).tolist() == pytest.approx([1, 0.65, 0.3, 0.25, 0.25 * 2 / 3, 0.25 / 3, 0])
    assert torch.equal(denser_end(25), denser_end(24)), "an odd count loses one"
    assert denser_end(50).tolist() == pytest.approx([1 - i / 50 for i in range(51)])
    assert until_004(3).tolist() == pytest.approx([1, 0.52, 0.04, 0])
    for steps in range(3, 30):
        for solver in SOLVERS.values():
            times = solver.times(steps)
            assert (times[0], times[-1]) == (1, 0)
            assert bool((times.diff() < 0).all())


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_orders_of_convergence(solver, order):
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    exact = 0.4 + 0.5 * x  # the flow of one Gaussian to another is linear
    errors = [
        (solver(gaussian(0.4, 0.5), x, torch.linspace(1, 0, n + 1).double(), None) - exact).abs().max()
        for n in (20, 40, 80)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert float(coarse / fine) == pytest.approx(2**order, rel=0.2)


def test_euler_maruyama_keeps_the_distribution():
    draws = Draws(range(4))
    x = draws.normal((4, 5000, 1))
    times = until_004(200)
    found = euler_maruyama(gaussian(0.4, 0.5), x, times, lambda: draws.normal(x.shape, torch.float64))
    assert found.mean().item() == pytest.approx(0.4, abs=0.02)
    assert found.std().item() == pytest.approx(0.5, rel=0.05)
    ordinary = euler(gaussian(0.4, 0.5), x, times, None)
    for samples, least, most in ((found, 0.2, 0.4), (ordinary, 0.999, 1.001)):
        correlation = torch.corrcoef(torch.stack([samples.flatten(), x.flatten()]))[0, 1]
        assert least < correlation < most, "noise on the way makes it forget where it started"


def test_the_state_is_double_and_the_network_sees_single():
    seen = set()

    def velocity(x, t):
        seen.add((x.dtype, type(t)))
        return torch.zeros_like(x)

    x = torch.ones(1, 2, 3)
    for solver in SOLVERS.values():
        found = solver.integrate(velocity, x, solver.times(3), lambda: torch.zeros(1, 2, 3).double())
        assert found.dtype == torch.float32
    assert seen == {(torch.float32, float)}


@pytest.mark.parametrize(
    ("head", "solver", "least"),
    [
        (BackboneFlowConfig(), None, 3),
        (BackboneFlowConfig(), "euler", 1),
        (FlowMLPConfig(width=16), "heun", 1),
        (FlowNetConfig(width=16), None, 2),
        (FlowNetConfig(width=16), "euler-maruyama", 3),
    ],
)
def test_too_few_head_steps_are_refused(head, solver, least):
    built = head.build()
    read = Read(torch.arange(4)[None], features=torch.zeros(1, 4, 1, 16))

    def draw(steps):
        at = Settings(head_steps=steps, solver=solver)
        return built.sample(lambda x, t: torch.zeros_like(x), read, at, Draws([0]))

    assert draw(least).shape == (1, 4, 16)
    for steps in {least - 1, -1} - {0}:  # 0 is the head's own number
        with pytest.raises(ArzooError, match=f"at least {least} head steps, got {steps}"):
            draw(steps)
    assert torch.equal(draw(0), draw(head.head_steps))


def test_unknown_solvers_and_shapes_are_named():
    with pytest.raises(UnknownName, match=r"'euler-maruyama'"):
        flow_solver("euler-maruyana")
    with pytest.raises(UnknownName, match="'linear'"):
        schedules.anneal(9, 3, "liner")
    with pytest.raises(ArzooError, match="got 50 to 0, both must be at least 1"):
        schedules.anneal(50, 0)


def test_time_index_rounds_in_single_precision():
    assert time_index(0.04).item() == 40
    assert time_index(torch.tensor([0.0, 1.0])).tolist() == [0, 1000]
    # 0.68 in float64 times 1000 is just below 680.
    assert time_index(0.68).item() == 680
    assert math.trunc(0.6799999999999999 * 1000) == 679
