"""Algorithms of search, and what their tests share: a run of one picture, its decoder and a verifier."""

from dataclasses import replace

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection

RASTER = "transformer raster"
"""Name of the network that most of these tests draw with."""
ALGORITHMS = [
    BestOfN(5, batch=2, results=3),
    Beam(2, 3, results=2),
    Beam(2, 2, lengths=(1, 2, 3), complete=True),
    Lookahead(2, 2, ahead=-1, comparisons=1, scale_first=True),
    Particles(4, temperature=5.0, results=2),
    Particles(3, threshold=1, lengths=(1, 3), complete=True),
    Rejection(1e9, most=4, batch=3, results=2),
    Rejection(1e9, most=3, lengths=(1, 2)),
    Cautious(3, share=1, lengths=(2, 3)),
]
"""Every algorithm, in one or two settings."""


def begin(case, control=None, seed=5, **more):
    """A run of one picture; the knobs are those of the case by default."""
    return case.begin(seeds=[seed], labels=torch.tensor([2]), control=control, **more)


def decode(tokens):
    """A picture is the values, 0 where there are none."""
    known = tokens.known.view(*tokens.known.shape, *[1] * (tokens.values.dim() - 2))
    return torch.where(known, tokens.values, 0).double().flatten(1)


def brightness(pictures):
    """A score that tells almost all pictures apart; it rises with every code."""
    return (pictures * torch.linspace(1, 2, pictures.shape[1])).sum(1)


def search(case, algorithm, verifier=brightness, budget=None, control=None, **more):
    return algorithm(case.model, begin(case, control, **more), verifier, decode, budget)


def mean(pictures):
    """The mean code; low for partial pictures."""
    return pictures.mean(1)


def refused(match, call, *args, **kwargs):
    with pytest.raises(ArzooError, match=match):
        call(*args, **kwargs)


def same_counts(one, other):
    """Whether two counts are equal but for seconds."""
    return replace(one, seconds=0.0) == replace(other, seconds=0.0)
