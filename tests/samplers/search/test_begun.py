"""Searches of a run that has begun: lengths count from the start of the plan, and what was drawn stays."""

import pytest
import torch
from searches import RASTER, begin, brightness, decode, refused

from arzoo.samplers.loop import generate
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Work
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles

BEGUN = 2


@pytest.fixture(scope="module")
def case(networks):
    return networks[RASTER]


@pytest.fixture
def run(case):
    """A run of one picture after two steps."""
    run = begin(case)
    steps = generate(case.model, run)
    for _ in range(BEGUN):
        next(steps)
    assert run.k == BEGUN
    return run


def lengths(result):
    return [each.steps for each in result.history]


@pytest.mark.parametrize(
    ("algorithm", "compared"),
    [
        (BestOfN(3), [16]),
        (Beam(2, 3), [4, 8, 16]),
        (Beam(2, 3, lengths=(1, 2, 3), complete=True), [3, 16]),
        (Particles(3, temperature=5.0, lengths=(2, 12), complete=True), [12, 16]),
        (Lookahead(2, 3, lengths=(2, 4, 6), ahead=2), [4, 6]),
        (Lookahead(2, 3, ahead=-1), [4, 8, 16]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_lengths_are_absolute_and_the_prefix_stays(case, run, algorithm, compared):
    before = run.tokens.copy()
    result = algorithm(case.model, run, brightness, decode)
    assert lengths(result) == compared
    for each in result.history:
        assert bool((each.tokens.values[:, :BEGUN] == before.values[:, :BEGUN]).all())
        assert bool(each.tokens.known[:, : each.steps].all())
    assert len(result.history[0].tokens.values.unique(dim=0)) > 1
    assert (run.k, run.tokens.known.sum()) == (BEGUN, BEGUN), "the run stays as it is"
    predicted = algorithm.predict(Work.of_run(case.model, run), BEGUN)
    assert result.spent.network_calls == predicted.network_calls
    assert result.spent.decodes <= predicted.decodes, "equal particles are decoded once"


def test_a_search_of_a_begun_run_goes_on_as_the_run_itself_would(case, run):
    whole = case.finish(begin(case)).tokens.values
    result = BestOfN(2)(case.model, run, brightness, decode)
    assert torch.equal(result.history[0].tokens.values[:1], whole)


@pytest.mark.parametrize("kind", [Beam, Lookahead])
def test_lengths_behind_the_run_are_refused(case, run, kind):
    words = r"the run is at step 2, behind all lengths \(1, 2\) of the search: give longer lengths"
    refused(words, kind(2, 3, lengths=(1, 2)), case.model, run, brightness, decode)


@pytest.mark.parametrize("kind", [Beam, Lookahead])
def test_published_lengths_count_from_the_prefix(case, run, kind):
    """The published code adds the length of the prefix to all of them; a run from the start is as it was."""
    for given, compared in (((1, 2), [3, 4]), ((1, 2, 15, 16), [3, 4, 16]), (None, [3, 4, 6, 10, 16])):
        algorithm = kind(2, 3, lengths=given, published=True)
        assert lengths(algorithm(case.model, run, brightness, decode)) == compared
        usual = kind(2, 3, lengths=given)
        first = [each(case.model, begin(case), brightness, decode) for each in (usual, algorithm)]
        assert lengths(first[0]) == lengths(first[1])
        assert torch.equal(first[0].tokens.values, first[1].tokens.values)
