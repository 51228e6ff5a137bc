"""Budgets: what a search costs is known before, and no more is spent than allowed."""

import contextlib
import itertools

import pytest
from searches import ALGORITHMS, RASTER, begin, refused, search

from arzoo.base.errors import ArzooError
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget, Counts, Work
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lengths import fixed
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection


def test_published_numbers_of_decodes():
    """The counts of the paper's settings, without a model."""
    width, codes = 5, 64000
    assert Beam(width, 10).predict(Work.even(256)).decodes == 410
    assert Beam(width, 10).predict(Work.even(256)).network_calls == 1 + 5 * 255
    assert BestOfN(50).predict(Work.even(256)) == Counts(50 * 256, 50 * 256, 50, 50)
    free = Beam(width, codes // 100, lengths=fixed(32)).predict(Work.even(256, network=0))
    assert free == Counts(0, 0, 99_840, 99_840)
    ahead = Lookahead(width, 10, ahead=8).predict(Work.even(256))
    assert ahead.decodes == 410
    assert ahead.network_calls == 1 + 5 * 255 + 10 * 8 + 7 * 50 * 8


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("limit", ["network_calls", "head_calls", "decodes", "verifications"])
def test_a_search_stays_inside_every_limit(networks, algorithm, limit):
    """From the smallest limit that is not refused to the whole cost, never more is spent."""
    case = networks[RASTER]
    full = getattr(algorithm.predict(Work.of_run(case.model, begin(case))), limit)
    accepted = 0
    for most in sorted({1, full // 2, full * 9 // 10, full}):
        budget = Budget(**{limit: most})
        result = None
        with contextlib.suppress(ArzooError):
            result = search(case, algorithm, budget=budget)
        if result is None:
            refused(f"{limit}={most} is too small for one result", search, case, algorithm, budget=budget)
            assert not accepted, "a larger budget is not refused"
            continue
        accepted = getattr(result.spent, limit)
        assert accepted <= most
        assert (result.stopped == limit) == (most < full)
        if getattr(algorithm, "complete", True):
            assert bool(result.tokens.known.all())
    assert accepted == getattr(search(case, algorithm).spent, limit)


def test_any_number_of_samples_is_lowered_by_a_budget(networks):
    """Also one that would take hours to count down from."""
    case = networks[RASTER]
    many = 10**12
    for algorithm in (BestOfN(many), Particles(many), Rejection(1e9, many, many)):
        result = search(case, algorithm, budget=Budget(verifications=16))
        assert result.stopped == "verifications"
        assert result.spent.verifications > 10


def test_a_budget_of_seconds_ends_a_search(networks, monkeypatch):
    """A comparison is not begun if it would end too late, by the longest one before."""
    clock = itertools.count(0.0, 0.25)
    monkeypatch.setattr("arzoo.samplers.search.budget.time.perf_counter", lambda: next(clock))
    case = networks[RASTER]
    result = search(case, Beam(2, 3, lengths=fixed(16)), budget=Budget(seconds=4.0))
    assert result.stopped == "seconds"
    assert 1 <= len(result.history) < 16
    for many in (BestOfN(16, batch=1), Rejection(1e9, most=16)):
        result = search(case, many, budget=Budget(seconds=4.0))
        assert result.stopped == "seconds"
        assert 1 <= len(result.history[0].scores) < 16
    assert len(search(case, Particles(2, lengths=fixed(16)), budget=Budget(seconds=4.0)).history) < 16
    cautious = search(case, Cautious(3, share=1), budget=Budget(seconds=4.0))
    assert cautious.stopped == "seconds"
    assert len(cautious.history) < 4
    assert bool(cautious.tokens.known.all()), "drawn to the end without trials"
