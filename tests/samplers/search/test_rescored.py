"""The results of one search, scored once more by another verifier."""

import pytest
import searches
import torch
from searches import RASTER, mean

from arzoo.core.control import Control
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.rejection import Rejection
from arzoo.samplers.search.rescored import Rescored
from arzoo.samplers.verifiers.base import PictureScore


@pytest.fixture
def raster(networks):
    return networks[RASTER]


def search(case, algorithm):
    return searches.search(case, algorithm, mean, control=Control())


def equal(pictures):
    return pictures.new_ones(len(pictures))


def test_it_says_whether_the_threshold_was_reached(raster):
    for threshold, reached in ((1e3, False), (-1e3, True)):
        assert search(raster, Rescored(Rejection(threshold, most=2), PictureScore(mean))).reached is reached
    assert search(raster, Rescored(BestOfN(2), PictureScore(mean))).reached is None


@pytest.mark.parametrize("published", [False, True])
def test_log_probabilities_are_those_of_the_results(raster, published):
    """Also where equal scores of what steers are taken in another order."""
    inner = BestOfN(20, results=3, published=published)
    first, last = search(raster, Rescored(inner, PictureScore(equal))).history
    assert torch.equal(first.tokens.values[last.parents], last.tokens.values)
    assert torch.equal(first.log_probs[last.parents], last.log_probs)
