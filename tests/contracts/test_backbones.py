"""What every network of the zoo promises beside the features of its tokens."""

import pytest
import torch
from contracts.cases import SAMPLES, SEEDS, cases

from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.samplers.loop import generate, start

NAMES = [
    "raster",
    "transformer raster",
    "transformer next-neighbor clip",
    "mar",
    "xar cells",
    "flowar",
]
CASES = {name: case for name, case in cases().items() if name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_label_no_label_and_a_dropped_one_are_the_null(name):
    case = CASES[name]

    def drawn(cond):
        run = start(case.model, case.plan(SAMPLES), cond, case.control, case.tokens(), Draws(SEEDS))
        return [step for step in generate(case.model, run)][-1].run.tokens.values

    labels, drop = torch.arange(SAMPLES), torch.ones(SAMPLES, dtype=torch.bool)
    dropped = drawn(Cond(SAMPLES, label=labels, drop=drop))
    assert torch.equal(drawn(Cond(SAMPLES, label=torch.full((SAMPLES,), -1))), dropped)
    assert torch.equal(drawn(Cond(SAMPLES)), dropped)
    some = drawn(Cond(SAMPLES, label=torch.tensor([0, -1, 2])))
    assert torch.equal(some[1], dropped[1])
    assert not torch.equal(some[0], dropped[0])
