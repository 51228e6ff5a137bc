"""Particles: their law is that of the model times exp(score / temperature), and copies go on by themselves."""

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import TokenSpec
from arzoo.samplers.loop import start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search import particles
from arzoo.samplers.search.lengths import fixed
from arzoo.samplers.search.particles import Particles, effective, shares, systematic
from arzoo.samplers.search.uniform import UniformPrior
from arzoo.samplers.verifiers.ensemble import RankEnsemble

CODES, LENGTH, TEMPERATURE = 3, 2, 0.7
SPEC = TokenSpec(Ordered(LENGTH), vocab=CODES, prefix_ok=True)
PRIOR, PLAN = UniformPrior.of(SPEC), ordered(SPEC.layout)
TABLE = torch.randn(LENGTH + 1, CODES**LENGTH, generator=torch.Generator().manual_seed(4))
"""Score of every prefix, by its number of tokens."""


def decode(tokens):
    """A picture is the number of its tokens and their number in base 3."""
    place = CODES ** torch.arange(LENGTH)
    return torch.stack([tokens.known.sum(1), (tokens.values * tokens.known * place).sum(1)], 1)


def score(pictures):
    return TABLE[pictures[:, 0], pictures[:, 1]]


def search(seed, algorithm, verifier=score):
    run = start(PRIOR, PLAN, Cond(1), Control(), SPEC.empty(1), Draws([seed]))
    return algorithm(PRIOR, run, verifier, decode)


def estimate(result):
    """Unbiased estimate (9,) of probability times exp(score / temperature), where all comparisons draw again."""
    before, mass, growth = 0.0, 1.0, torch.ones(0)
    for each in result.history:
        mass = mass * (growth.mean() if len(growth) else 1)
        growth = ((each.scores - before) / TEMPERATURE).double().exp()
        before = each.scores[each.kept]
    pictures = decode(result.history[-1].tokens)[:, 1]
    return torch.zeros(CODES**LENGTH).double().index_add(0, pictures, mass * growth / len(growth))


def errors():
    """Standard errors that the mean of estimates is off the law, the largest of 9."""
    algorithm = Particles(4, TEMPERATURE, threshold=1, lengths=fixed(LENGTH))
    estimates = torch.stack([estimate(search(seed, algorithm)) for seed in range(300)])
    law = (TABLE[LENGTH].double() / TEMPERATURE).exp() / CODES**LENGTH
    return float(((estimates.mean(0) - law) / (estimates.std(0) / len(estimates) ** 0.5)).abs().max())


def test_weighted_particles_follow_the_law():
    assert errors() < 4


def test_particles_drawn_without_their_weights_do_not(monkeypatch):
    """The wrong twin: survivors that do not follow the weights are noticed."""
    monkeypatch.setattr(particles, "systematic", lambda weights, offset: systematic(weights.flip(0), offset))
    assert errors() > 5


def test_copies_go_on_by_themselves():
    """All but one particle are worthless after the first token: they are replaced by copies, which then differ."""
    best = Particles(8, temperature=0.01, lengths=fixed(LENGTH))
    result = search(3, best, lambda pictures: -(pictures[:, 1] % CODES).double())
    first, second = result.history
    assert set(first.tokens.values[first.kept, 0].tolist()) == {0}
    assert second.parents.tolist() == first.kept.tolist()
    assert len(set(second.tokens.values[:, 1].tolist())) > 1
    assert second.weights.tolist() == pytest.approx([1 / 8] * 8)
    assert torch.equal(result.history[0].tokens.known.sum(1), torch.ones(8)), "history is not drawn on"


def test_without_drawing_again_particles_are_plain_samples():
    result = search(5, Particles(4, threshold=0, lengths=fixed(LENGTH)))
    assert [each.parents.tolist() for each in result.history[1:]] == [[0, 1, 2, 3]]
    last = result.history[-1]
    assert torch.allclose(last.weights, (last.scores / 0.1).double().softmax(0))
    assert float(result.scores[0]) == float(last.scores.max())


def test_weights():
    assert effective(torch.full((4,), 0.25)) == 4
    assert effective(torch.tensor([1.0, 0, 0])) == 1
    inf = float("inf")
    assert shares(torch.tensor([0.0, inf, inf])).tolist() == [0, 0.5, 0.5]
    assert shares(torch.tensor([-inf, -inf])).tolist() == [0.5, 0.5]
    assert shares(torch.tensor([-inf, 3.0])).tolist() == [0, 1]
    weights = torch.tensor([0.5, 0.1, 0.0, 0.4]).double()
    for offset in (0.0, 0.3, 0.999999):
        counts = systematic(weights, offset).bincount(minlength=4)
        assert bool(((counts - 4 * weights).abs() < 1).all())


def test_infinite_scores_are_followed():
    """A score of -inf is not kept where there is another; scores that are all infinite are equal."""
    for extreme in (float("inf"), -float("inf")):
        alike = torch.full((6,), extreme)
        result = search(1, Particles(6, lengths=fixed(LENGTH)), lambda p, alike=alike: alike[: len(p)])
        assert result.history[-1].weights.tolist() == pytest.approx([1 / 6] * 6)
    result = search(2, Particles(9, lengths=fixed(LENGTH)), lambda p: (p[:, 1] % CODES == 1).double().log())
    assert set(result.history[-1].tokens.values[:, 0].tolist()) == {1}


def test_ranks_are_no_weights():
    with pytest.raises(ArzooError, match="'ensemble' only rank candidates of one comparison"):
        search(0, Particles(4), RankEnsemble([score]))
