"""What a search refuses: verifiers without scores, settings out of range and runs with nothing to choose."""

import torch
from searches import RASTER, begin, brightness, decode, refused, search

from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lengths import geometric
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection


def test_verifiers_that_return_no_scores_are_refused(networks):
    case = networks[RASTER]
    for verifier, match in (
        (lambda p: brightness(p) * torch.nan, "returned NaN for 3 of 3 candidates"),
        (lambda p: p, r"one real number per candidate, a tensor \(3,\), got shape \(3, 16\)"),
        (lambda p: brightness(p)[:2], r"got shape \(2,\)"),
        (lambda p: brightness(p).tolist(), "got list"),
    ):
        for algorithm in (
            BestOfN(3),
            Beam(2, 3),
            Lookahead(2, 3, ahead=1),
            Particles(3, lengths=(16,)),
            Rejection(0.5, batch=3),
            Cautious(3),
        ):
            refused(match, search, case, algorithm, verifier)
    refused("a verifier is a Verifier or a function", search, case, Beam(), 3)


def test_bad_requests_are_refused(networks):
    case = networks[RASTER]
    refused("samples of best-of-N must be a whole number of at least 1, got 0", BestOfN, 0)
    refused("candidates must be a whole number of at least 1, got 0", Beam, 1, 0)
    refused("width 5 is wider than its 4 candidates", Beam, 5, 4)
    refused("particles must be a whole number of at least 1, got 0", Particles, 0)
    refused("temperature of particles must be above 0", Particles, temperature=0)
    refused("threshold of particles is a share", Particles, threshold=1.5)
    refused("most must be a whole number of at least 1, got 0", Rejection, 0.5, 0)
    for threshold in (float("nan"), "high", [0.5, None]):
        refused("a threshold is a finite number", Rejection, threshold)
    refused("2 thresholds for the lengths", search, case, Rejection((0.5, 0.6), lengths=(1, 2)))
    refused("trials must be a whole number of at least 2, got 1", Cautious, 1)
    refused("the share of uncertain tokens", Cautious, share=0)
    refused("ahead=0 looks at nothing", Lookahead, ahead=0)
    refused("budget decodes=0 must be a number above 0", Budget, decodes=0)
    refused("budget seconds=nan must be", Budget, seconds=float("nan"))
    refused("lengths must rise", search, case, Beam(2, 3, lengths=(1, 1)))
    refused("lengths must rise", search, case, Beam(2, 3, lengths=(4, 17)))
    refused("base above 1", geometric, 8, 1.0)
    refused("different candidates are asked of a step", search, case, Beam(2, case.spec.vocab + 1))
    refused("pass decode", Beam(), case.model, begin(case), brightness)
    refused(
        "a search is for one picture, got a run of 3", Beam(), case.model, case.begin(), brightness, decode
    )
    given = Tokens.of(torch.zeros(1, 16, dtype=torch.long))
    refused("nothing to search", search, case, Beam(), tokens=given)
    refused(
        "greedy candidates would all be the same",
        search,
        networks["masked"],
        Beam(),
        control=Control(greedy=True),
    )
