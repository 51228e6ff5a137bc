"""Search: its algorithms over every kind of plan and head."""

from dataclasses import asdict, replace

import pytest
import torch
from searches import ALGORITHMS, RASTER, begin, brightness, decode, refused, same_counts, search

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.samplers.plans.inplace import masked
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget, Work
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection
from arzoo.samplers.verifiers.likelihood import Likelihood

NAMES = [
    RASTER,
    "transformer vectors",
    "masked",
    "confident",
    "custom a sample",
    "pivots",
    "himar",
    "scales",
    "rar raster",
]
DIFFERENT = (RASTER, "custom a sample", "transformer vectors", "pivots")
"""Those of which no candidates of a beam are equal."""


def test_every_algorithm_has_a_name():
    assert {type(each) for each in ALGORITHMS} == {
        registry.lookup("search_method", name) for name in registry.names("search_method")
    }
    assert registry.create("search_method", "beam", width=2) == Beam(2)
    refused("Did you mean 'width'", registry.create, "search_method", "beam", widht=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
def test_every_algorithm_searches_over_every_kind_of_plan(networks, name, algorithm):
    """The result is complete and the best of the last comparison, the run stays, and the costs are those predicted."""
    case = networks[name]
    run = begin(case)
    before = run.tokens.values.clone()
    result = algorithm(case.model, run, brightness, decode)
    assert torch.equal(run.tokens.values, before)
    assert run.k == 0
    last = result.history[-1]
    results = algorithm.results
    assert torch.equal(result.scores, last.scores.sort(descending=True).values[:results])
    assert torch.equal(brightness(decode(result.tokens)), result.scores)
    assert torch.equal(result.pictures, decode(result.tokens))
    assert bool(result.tokens.known.all())
    predicted = algorithm.predict(Work.of_run(case.model, run))
    assert not Budget(**asdict(replace(predicted, seconds=1e9))).exceeded(result.spent)
    repeats = isinstance(algorithm, Particles)  # what repeats is scored once
    if name in DIFFERENT and not repeats:
        assert same_counts(result.spent, predicted)
    assert result.spent.seconds > sum(result.parts.values()) > 0
    assert all(seconds > 0 for seconds in result.parts.values())
    again = algorithm(case.model, run, brightness, decode)
    assert torch.equal(again.tokens.values, result.tokens.values), "the same seed finds the same"


@pytest.mark.parametrize("name", NAMES)
def test_the_first_of_n_is_the_plain_picture(networks, name):
    case = networks[name]
    plain = case.finish(begin(case)).tokens.values
    history = search(case, BestOfN(3)).history[0]
    assert torch.allclose(history.tokens.values[:1], plain, rtol=1e-3, atol=1e-3), (
        "rounding follows the batch"
    )
    assert not torch.equal(history.tokens.values[1], history.tokens.values[2])


def test_given_tokens_stay_and_cost_nothing(networks):
    case = networks[RASTER]
    values = torch.arange(16)[None] % case.spec.vocab
    known = (torch.arange(16) % 3 == 0)[None]
    tokens = Tokens.of(values, known)
    for algorithm in (BestOfN(3), Beam(2, 3), Lookahead(2, 3, ahead=2)):
        result = search(case, algorithm, Likelihood(), tokens=tokens.copy())
        assert torch.equal(result.tokens.values[known], values[known])
        work = Work.of_run(case.model, begin(case, tokens=tokens.copy()))
        assert sum(work.network) == 10
        assert result.history[-1].log_probs.isfinite().all()
    assert search(case, BestOfN(3), tokens=tokens.copy()).spent.network_calls == 30


def test_equal_candidates_are_decoded_and_scored_once(networks):
    """A temperature near 0 draws the same again; a beam goes on without repeated candidates."""
    case, sizes = networks["masked"], []

    def verifier(pictures):
        sizes.append(len(pictures))
        return brightness(pictures)

    certain = Control(temperature=1e-4)
    many = search(case, BestOfN(4, batch=2), verifier, control=certain)
    assert len(many.history[0].scores) == 4
    assert bool((many.history[0].scores == many.scores[0]).all())
    assert sizes == [1]
    assert many.spent.verifications == 1
    assert many.spent.decodes == 2, "one of each batch"
    beam = search(case, Beam(2, 3), verifier, control=certain)
    assert {len(each.scores) for each in beam.history} == {1}
    assert torch.equal(beam.tokens.values, many.tokens.values)


def test_likelihood_needs_no_picture(networks):
    case = networks[RASTER]
    result = Beam(2, 3)(case.model, begin(case), Likelihood())
    assert result.pictures is None
    assert result.spent.decodes == 0
    assert torch.allclose(result.scores, result.history[-1].log_probs.max() / 16)
    shown = search(case, Beam(2, 3), Likelihood())
    assert shown.spent.decodes == len(shown.pictures) == 1
    with pytest.raises(ArzooError, match="'likelihood' needs the probabilities"):
        search(networks["transformer vectors"], Beam(2, 3), Likelihood())


def test_a_plan_of_one_step_has_nothing_to_choose(networks):
    case = networks["masked"]
    plan = masked(Grid(1, 4, 4), torch.arange(16)[None], 1)
    refused("draws everything in one step", search, case, Beam(2, 3), plan=plan)
    for algorithm in (BestOfN(3), Particles(3), Rejection(1e9, most=3, batch=3), Cautious(3)):
        assert [len(each.scores) for each in search(case, algorithm, plan=plan).history] == [3]
