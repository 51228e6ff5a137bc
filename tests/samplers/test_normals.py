"""A draft of a vector that is kept or replaced has the target's law; what only looks like it has not."""

import math

import pytest
import torch

from arzoo.core.draws import Draws
from arzoo.samplers.speculative.normals import Normal, kept, log_ratio, residual

COUNT = 20_000


def laws(shift, scale):
    """A target and a draft of so many vectors of three channels."""
    mean, deviation = torch.tensor([0.2, -0.1, 0.5]), torch.tensor([0.5, 1.0, 2.0])
    target = Normal(mean.expand(COUNT, -1), deviation.expand(COUNT, -1))
    return target, Normal(
        target.mean + torch.tensor(shift) * deviation, target.deviation * torch.tensor(scale)
    )


def drawn(target, draft, replace=residual):
    draws = Draws(range(COUNT))
    x = draft.at(draws.normal((COUNT, 3)))
    good = kept(x, target, draft, draws.uniform((COUNT,)))
    return torch.where(good[:, None], x, replace(x, target, draft, range(COUNT, 2 * COUNT))), good


def distance(x, target):
    """Largest Kolmogorov-Smirnov statistic times the root of the number, over several projections of the noise."""
    noise = (x - target.mean) / target.deviation
    ways = torch.cat(
        [torch.eye(3), torch.nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, -2, 1]]), dim=1)]
    )
    steps = torch.arange(COUNT + 1) / COUNT
    worst = 0.0
    for way in ways:
        cdf = torch.special.ndtr((noise @ way).sort().values.double())
        worst = max(worst, float((cdf - steps[1:]).abs().max()), float((cdf - steps[:-1]).abs().max()))
    return worst * math.sqrt(COUNT)


CASES = {
    "shifted": ([0.5, -0.3, 0.2], [1.0, 1.0, 1.0]),
    "far": ([2.0, 2.0, -1.0], [1.0, 1.0, 1.0]),
    "narrower": ([0.1, 0.2, 0.0], [0.7, 0.8, 0.9]),
    "wider in one channel": ([0.0, 0.3, 0.0], [1.0, 1.4, 1.0]),
    "mixed": ([0.5, -0.5, 0.5], [0.6, 1.0, 1.5]),
}


@pytest.mark.parametrize("name", CASES)
def test_kept_and_replaced_drafts_have_the_law_of_the_target(name):
    target, draft = laws(*CASES[name])
    x, good = drawn(target, draft)
    assert 0 < good.sum() < COUNT
    assert distance(x, target) < 2.2  # exceeded with a probability below 1e-3 (five projections)


def redrawn(x, target, draft, seeds):
    return target.at(Draws(seeds).normal(x.shape))


def unreflected(x, target, draft, seeds):
    return target.at((x - draft.mean) / draft.deviation)


def kept_all_the_same(x, target, draft, seeds):
    return x


@pytest.mark.parametrize("twin", [redrawn, unreflected, kept_all_the_same])
@pytest.mark.parametrize("name", ["shifted", "mixed"])
def test_wrong_twins_have_another_law(name, twin):
    target, draft = laws(*CASES[name])
    assert distance(drawn(target, draft, twin)[0], target) > 3.0  # a probability below 1e-6


def test_a_reflection_where_deviations_differ_has_another_law():
    target, draft = laws(*CASES["mixed"])

    def reflected(x, target, draft, seeds):
        alike = Normal(draft.mean, target.deviation)
        return residual(alike.at((x - draft.mean) / draft.deviation), target, alike, seeds)

    assert distance(drawn(target, draft, reflected)[0], target) > 3.0


@pytest.mark.parametrize("shift", [0.1, 0.25, 1.0])
def test_as_many_are_kept_as_the_laws_overlap(shift):
    target, draft = laws([shift] * 3, [1.0] * 3)
    apart = shift * math.sqrt(3)
    expected = 2 * float(torch.special.ndtr(torch.tensor(-apart / 2)))
    assert drawn(target, draft)[1].double().mean() == pytest.approx(expected, abs=0.015)


def test_equal_laws_keep_all_and_their_residual_is_finite():
    target, _ = laws([0.0] * 3, [1.0] * 3)
    x, good = drawn(target, target)
    assert good.all()
    assert residual(x, target, target, range(COUNT)).isfinite().all()
    assert not log_ratio(x, target, target).any()


def test_a_network_that_diverges_does_not_keep_it_trying():
    target, draft = laws(*CASES["mixed"])
    wild = Normal(target.mean * float("nan"), target.deviation * float("inf"))
    assert residual(draft.mean, wild, draft, range(COUNT)).shape == draft.mean.shape


def test_a_residual_does_not_depend_on_its_neighbours():
    target, draft = (Normal(law.mean[:50], law.deviation[:50]) for law in laws(*CASES["mixed"]))
    x = draft.at(Draws([9]).normal((1, 50, 3))[0])
    together = residual(x, target, draft, range(50))
    for row in (0, 17, 49):
        one = slice(row, row + 1)
        alone = residual(x[one], target.select(one), draft.select(one), [row])
        assert torch.equal(alone[0], together[row])
