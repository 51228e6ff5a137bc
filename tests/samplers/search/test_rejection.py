"""Rejection draws until a threshold is reached, and says whether it was."""

import pytest
import searches
import torch
from searches import RASTER, begin, mean

from arzoo.core.control import Control
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget, Work
from arzoo.samplers.search.rejection import Rejection


@pytest.fixture
def raster(networks):
    return networks[RASTER]


def search(case, algorithm, budget=None):
    return searches.search(case, algorithm, mean, budget, Control())


def test_it_ends_at_the_threshold(raster):
    """The samples are those of best-of-N, up to the first that is good enough."""
    all_ = search(raster, BestOfN(12)).history[0]
    threshold = float(all_.scores.sort().values[8])
    first = int((all_.scores >= threshold).nonzero()[0])
    result = search(raster, Rejection(threshold, most=12))
    assert result.reached
    assert torch.equal(result.history[0].tokens.values, all_.tokens.values[: first + 1])
    assert float(result.scores[0]) == float(all_.scores[first])
    assert result.spent.network_calls == 16 * (first + 1)
    batches = search(raster, Rejection(threshold, most=12, batch=5))
    assert len(batches.history[0].scores) == min(-(-(first + 1) // 5) * 5, 12)
    assert not result.stopped


def test_the_best_is_returned_where_it_is_not_reached(raster):
    all_ = search(raster, BestOfN(6)).history[0]
    result = search(raster, Rejection(1e3, most=6))
    assert result.reached is False
    assert not result.stopped
    assert float(result.scores[0]) == float(all_.scores.max())
    short = search(raster, Rejection(1e3, most=6), Budget(decodes=4))
    assert (short.stopped, short.spent.decodes, short.reached) == ("decodes", 4, False)


def test_prefixes_that_reach_it_are_kept(raster):
    """Each length is drawn again by itself, from the best prefix on, with a threshold of its own."""
    every = search(raster, Rejection(1e3, most=7, lengths=(4, 8))).history[0].scores
    threshold = float(every.max())
    result = search(raster, Rejection((threshold, 1e3, 2.0), most=7, lengths=(4, 8)))
    four, eight, whole = result.history
    assert torch.equal(four.scores, every[: int(every.argmax()) + 1])
    assert len(eight.scores) == 7
    prefix = four.tokens.values[four.kept[0], :4]
    assert bool((eight.tokens.values[:, :4] == prefix).all())
    assert eight.parents.tolist() == [int(four.kept[0])] * 7
    assert bool((whole.tokens.values[:, :8] == eight.tokens.values[eight.scores.argmax(), :8]).all())
    calls = 4 * len(four.scores) + 4 * 7 + 8 * len(whole.scores)
    assert result.spent.network_calls == calls
    assert result.reached == bool(whole.scores.max() >= 2.0)


def test_a_budget_leaves_room_to_end_the_picture(raster):
    algorithm = Rejection(1e3, most=5, lengths=(4, 8))
    full = algorithm.predict(Work.of_run(raster.model, begin(raster, Control()))).network_calls
    for most in range(16, full + 1, 7):
        result = search(raster, algorithm, Budget(network_calls=most))
        assert result.spent.network_calls <= most
        assert bool(result.tokens.known.all())
        assert [each.steps for each in result.history] == [4, 8, 16]
