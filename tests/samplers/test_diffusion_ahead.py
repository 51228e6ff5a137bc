"""Several denoising steps a call draw from the law of one at a time, in fewer calls; wrong twins from another."""

import math
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from contracts.cases import SEEDS, cases

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control, Settings
from arzoo.core.draws import Draws
from arzoo.samplers.solvers import diffusion_ahead as module
from arzoo.samplers.solvers.diffusion import ddpm, process
from arzoo.samplers.solvers.diffusion_ahead import ddpm_ahead

CASES = cases()
COUNT = 12_000
CENTRES = torch.tensor([[1.5, 0.0], [-1.0, 1.0]])


class Toy:
    """The exact predictions for two blobs in the plane, with a variance that depends on the state; counts its calls."""

    def __init__(self, centres=CENTRES):
        self.calls, self.alpha_bar = 0, torch.from_numpy(process().alpha_bar).float()
        self.centres = centres

    def __call__(self, x, t):
        self.calls += 1
        share = self.alpha_bar[torch.as_tensor(t)][..., None].expand(*x.shape[:-1], 1)
        variance = 1 - share * (1 - 0.3**2)
        apart = x[..., None, :] - share.sqrt()[..., None] * self.centres
        weights = (-apart.square().sum(-1) / (2 * variance)).softmax(-1)[..., None]
        noise = (1 - share).sqrt() / variance * (weights * apart).sum(-2)
        return torch.cat([noise, x.tanh()], -1)


class Guided(Toy):
    """The prediction for two blobs, guided away from that for other ones; the variance is that of the former."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale, self.null = scale, Toy(CENTRES.flip(-1) - 0.5)

    def __call__(self, x, t):
        own, null = super().__call__(x, t), self.null(x, t)
        noise, without = own[..., :2], null[..., :2]
        return torch.cat([without + self.scale * (noise - without), own[..., 2:]], -1)


def plain(settings, seed=1, toy=None):
    draws, toy = Draws([seed]), toy or Toy()

    def noise():
        return draws.normal((1, COUNT, 2))

    return ddpm(toy, noise(), settings, noise), toy.calls


def ahead(settings, seed=2, toy=None):
    draws, toy = Draws([seed]), toy or Toy()
    return ddpm_ahead(toy, draws.normal((1, COUNT, 2)), settings, draws), toy.calls


def distance(first, second):
    """Largest two-sample Kolmogorov-Smirnov statistic over several functions of tokens, times the root of n / 2."""
    worst = 0.0
    for function in (lambda x: x[..., 0], lambda x: x[..., 1], lambda x: x.sum(-1), lambda x: x.norm(dim=-1)):
        a, b = function(first).flatten(), function(second).flatten()
        points = torch.cat([a, b]).sort().values
        shares = [torch.searchsorted(x.sort().values, points, right=True) / COUNT for x in (a, b)]
        worst = max(worst, float((shares[0] - shares[1]).abs().max()))
    return worst * math.sqrt(COUNT / 2)


LIMIT = 2.1
"""Exceeded with a probability below 1e-3 over four functions."""


@pytest.mark.parametrize("settings", [
    Settings(head_steps=30, head_window=4), Settings(head_steps=8, head_window=3),
    Settings(head_steps=7, head_window=9, temperature=0.7, max_timestep=950),
    Settings(head_steps=2, head_window=5),
])  # fmt: skip
def test_tokens_have_the_law_of_the_plain_solver(settings):
    expected, steps = plain(settings)
    drawn, calls = ahead(settings)
    assert distance(drawn, expected) < LIMIT
    assert calls <= steps


def test_guided_predictions_have_the_law_of_the_plain_solver():
    """Two predictions combined; with another scale, the law is another one."""
    settings = Settings(head_steps=12, head_window=4)
    expected, steps = plain(settings, toy=Guided())
    drawn, calls = ahead(settings, toy=Guided())
    assert distance(drawn, expected) < LIMIT
    assert calls <= steps
    for other in (Guided(1.0), Guided(4.0)):
        assert distance(ahead(settings, toy=other)[0], expected) > 3.0


def all_kept(x, target, draft, level):
    return torch.ones_like(level, dtype=torch.bool)


def not_replaced(x, target, draft, seeds):
    return x


@pytest.mark.parametrize(("name", "twin"), [("kept", all_kept), ("residual", not_replaced)])
def test_wrong_twins_draw_from_another_law(name, twin):
    # What replaces a draft wrongly shows in a single step (test_normals); later steps wash it out.
    settings = Settings(head_steps=8, head_window=3)
    with patch.object(module, name, twin):
        assert distance(ahead(settings)[0], plain(settings)[0]) > 3.0  # a probability below 1e-6


def test_longer_windows_take_fewer_calls():
    draws = Draws([1])
    calls = []
    for window in (2, 4, 10):
        toy = Toy()
        ddpm_ahead(toy, draws.normal((1, 50, 2)), Settings(head_steps=60, head_window=window), draws)
        calls.append(toy.calls)
    assert calls == sorted(calls, reverse=True)
    assert calls[0] < 60
    assert calls[-1] < 40


@pytest.mark.parametrize("name", ["transformer vectors", "mar"])
def test_a_sample_does_not_depend_on_its_batch(name):
    one = CASES[name]
    control = Control(guidance=2.0, head_steps=4, max_timestep=900, head_window=3)
    plan = one.plan(len(SEEDS))
    together = one.finish(one.begin(plan=plan, control=control)).tokens.values
    for row, seed in enumerate(SEEDS[:2]):
        options = {"plan": plan.select(torch.tensor([row])), "labels": torch.tensor([row])}
        alone = one.finish(one.begin(seeds=[seed], control=control, **options)).tokens.values
        torch.testing.assert_close(alone[0], together[row], atol=1e-3, rtol=1e-3)
    plainly = one.finish(one.begin(plan=plan, control=replace(control, head_window=1))).tokens.values
    assert not torch.equal(together, plainly)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("transformer vectors", {"solver": "ddim"}, "head diffusion_mlp with solver 'ddim' cannot do"),
        ("transformer vectors", {"interval": (0.0, 0.5)}, "guidance cannot be limited to the shares"),
        ("transformer vectors", {"head_window": 0}, "a whole number from 1 to 1000"),
        ("xar cells", {"head_steps": 4}, "head backbone_flow cannot do"),
        ("raster", {}, "head categorical cannot do"),
    ],
)
def test_what_adds_no_noise_is_refused_with_the_reason(name, changes, words):
    with pytest.raises(ArzooError, match=words):
        CASES[name].begin(control=Control(**{"head_window": 4, **changes}))
