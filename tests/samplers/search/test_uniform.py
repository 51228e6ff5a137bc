"""A uniform prior is searched as a model is, without one."""

import math
from copy import deepcopy

import pytest
import torch
from searches import RASTER, brightness, decode, same_counts, search

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import TokenSpec
from arzoo.samplers.loop import start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.budget import Counts
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lengths import fixed
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.uniform import UniformPrior


def test_uniform_prior_searches_without_a_model():
    spec = TokenSpec(Ordered(8), vocab=32, prefix_ok=True)
    prior, plan = UniformPrior.of(spec), ordered(spec.layout)
    run = start(prior, plan, Cond(1), Control(), spec.empty(1), Draws([3]))
    result = Beam(3, 10, lengths=fixed(4))(prior, run, brightness, decode)
    assert result.tokens.known.sum() == 4
    assert result.history[-1].log_probs.tolist() == pytest.approx([-4 * math.log(32)] * 30)
    assert same_counts(result.spent, Counts(0, 0, 100, 100))
    assert len(set(result.history[0].tokens.values[:, 0].tolist())) == 10, "without replacement"
    with pytest.raises(ArzooError, match="one code per position"):
        UniformPrior.of(TokenSpec(Ordered(8), channels=4))


@pytest.mark.parametrize("control", [Control(top_k=1), Control(greedy=True)])
def test_ties_of_a_trained_head(networks, control):
    """All codes are as likely as the best one: top-k keeps ties, and greedy candidates are taken in their order."""
    case = deepcopy(networks[RASTER])
    torch.nn.init.zeros_(case.model.heads[0].output.weight)
    codes = case.spec.vocab
    for algorithm in (Beam(2, 5), Lookahead(2, 5, ahead=1)):
        first = search(case, algorithm, control=control).history[0]
        drawn = first.tokens.values[:, 0].tolist()
        assert len(set(drawn)) == 5
        assert first.log_probs.tolist() == pytest.approx([-math.log(codes)] * 5)
        if control.greedy:
            assert drawn == [0, 1, 2, 3, 4]
    assert len(search(case, Beam(2, codes), control=control).history[0].scores) == codes


def test_equally_likely_codes_are_taken_in_their_order():
    """Greedy candidates of a uniform prior, where all codes tie."""
    spec = TokenSpec(Ordered(4), vocab=300, prefix_ok=True)
    prior = UniformPrior.of(spec)
    run = start(prior, ordered(spec.layout), Cond(1), Control(greedy=True), spec.empty(1), Draws([3]))
    for algorithm in (Beam(2, 5), Lookahead(2, 5, ahead=1), Cautious(5)):
        first = algorithm(prior, run, brightness, decode).history[0].tokens.values
        assert sorted(set(first[:, 0].tolist())) == [0, 1, 2, 3, 4]
