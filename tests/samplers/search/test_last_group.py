"""What verifiers and rules of stopping see of the last group: the features it was drawn from."""

import pytest
import torch
from searches import RASTER, begin

from arzoo.core.condition import Cond
from arzoo.core.readouts import average_readouts
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.samplers.loop import Drawn, generate
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.verifiers.base import Verifier

ALGORITHMS = [
    BestOfN(4, batch=3),
    Beam(2, 3),
    Beam(2, 2, lengths=(1, 2), complete=True),
    Lookahead(2, 2, ahead=1),
]


class Witness(Verifier):
    """Scores by the features, and keeps what it was shown."""

    pictures = False

    def __init__(self):
        self.seen = []

    def score(self, candidates):
        self.seen.append(candidates)
        return candidates.last.features.double().flatten(1).sum(1).cpu()


def whole(case, values):
    """Features (B, N, D) of a parallel pass over whole canvases."""
    cond = Cond(len(values), label=torch.full((len(values),), 2))
    return average_readouts(case.model.backbone.features(Tokens.of(values), cond, case.plan(1)))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
def test_every_candidate_shows_what_its_last_group_was_drawn_from(networks, algorithm):
    case, witness = networks[RASTER], Witness()
    result = algorithm(case.model, begin(case), witness)
    assert sum(len(each.tokens.values) for each in witness.seen) == result.spent.verifications
    assert result.spent.decodes == 0
    for candidates in witness.seen:
        last, count = candidates.last, candidates.count
        group = last.group.expand(len(candidates.tokens.values), -1)
        assert torch.equal(group, torch.full_like(group, count - 1))
        assert last.k == count - 1
        before = gather_positions(whole(case, candidates.tokens.values), group)
        assert torch.allclose(last.features, before, atol=1e-4)


@pytest.mark.parametrize("name", ["masked", "confident", "custom a sample", "transformer vectors", "scales"])
def test_groups_of_every_kind_of_plan(networks, name):
    case, witness = networks[name], Witness()
    Beam(2, 3)(case.model, begin(case), witness)
    for candidates in witness.seen:
        last, tokens = candidates.last, candidates.tokens
        assert last.features.shape[:2] == (len(tokens.values), last.group.shape[1])
        assert bool(tokens.known.gather(1, last.group.expand(len(tokens.values), -1)).all())


def test_the_last_group_follows_forks(networks):
    case = networks[RASTER]
    run = case.begin(seeds=[5, 6], labels=torch.tensor([2, 1]), branches=2)
    assert run.last is None
    steps = generate(case.model, run)
    next(steps), next(steps)
    assert run.last.k == 1
    assert run.last.features.shape[:2] == (2, 1), "conditional rows alone"
    fork = run.select(torch.tensor([1, 1, 0]))
    assert torch.equal(fork.last.features, run.last.features[[1, 1, 0]])
    assert Drawn.joined([run.last, None]) is None
    both = Drawn.joined([run.last, fork.last])
    assert torch.equal(both.features, torch.cat([run.last.features, fork.last.features]))
    assert both.group.tolist() == [[1]] * 5
