"""Methods that change the law say so, are refused unless allowed, and are exact at their mildest settings."""

import pytest
import torch
from contracts.cases import SEEDS, cases
from speculations import error

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.samplers.loop import generate
from arzoo.samplers.speculative.inexact import Grouped, Judged, Lantern
from arzoo.samplers.speculative.relaxed import neighbours

CASES = cases()
AROUND = torch.tensor([[1], [0]])
"""The neighbours of two codes."""


def judge(share):
    return lambda read, codes: torch.full(codes.shape, share)


METHODS = {
    "lantern": lambda amount, **options: Lantern(3, delta=amount, around=AROUND, **options),
    "grouped": lambda amount, **options: Grouped(3, size=1, tolerance=amount, **options),
    "judged": lambda amount, **options: Judged(3, judge=judge(amount), **options),
}


def error_of(method):
    return error(lambda other: method, (1, 2, 1), parts=4)


@pytest.mark.parametrize("name", METHODS)
def test_the_mildest_setting_is_exact_and_others_are_not(name):
    assert error_of(METHODS[name](0.0, allow_inexact=True)) < 1e-6
    assert error_of(METHODS[name](0.8, allow_inexact=True)) > 0.02


@pytest.mark.parametrize("name", METHODS)
def test_they_are_refused_unless_allowed(name):
    method, one = METHODS[name](0.1), CASES["raster"]
    assert not method.exact
    with pytest.raises(
        ArzooError, match=r"another law than the model's.*--allow-inexact.*allow_inexact=True"
    ):
        list(method.draw(one.model, one.begin()))


def test_more_drafts_are_kept_the_larger_delta():
    one, passes = CASES["transformer raster"], []
    codebook = torch.randn(one.spec.vocab, 4, generator=torch.Generator().manual_seed(0))
    for delta in (0.0, 0.3, 1.0):
        run = one.begin()
        run.draws = Draws(SEEDS, gumbel=True)
        method = Lantern(6, "none", True, delta, neighbours(codebook, 1000))
        assert len(list(method.draw(one.model, run))) == len(run.plan)
        passes.append(run.passes)
    run = one.begin()
    list(generate(one.model, run))
    assert run.passes >= passes[0] > passes[1] > passes[2]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ArzooError, match=r"delta must be 0 or more, got -0\.1; 0 is exact"):
        Lantern(4, delta=-0.1)
    with pytest.raises(ArzooError, match="window of speculative Jacobi"):
        Grouped(0)
    one = CASES["raster"]
    with pytest.raises(ArzooError, match="Lantern needs the neighbors of every code"):
        list(Lantern(4, allow_inexact=True).draw(one.model, one.begin()))
