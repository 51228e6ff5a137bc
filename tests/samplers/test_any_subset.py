"""A network for any order that drafts for itself has the law of the chain along its order; wrong twins have another."""

from copy import deepcopy
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from contracts.cases import cases
from contracts.networks import shaken
from speculations import assert_likeliest_codes, assert_repeats_and_forks
from tables import Scripted, all_outcomes, begin, distance

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.rar.network import RARConfig
from arzoo.samplers import schedules
from arzoo.samplers.plans.shifted import custom
from arzoo.samplers.speculative import verification
from arzoo.samplers.speculative.any_subset import AnySubset
from arzoo.samplers.speculative.chain import Verdict, chain, law
from arzoo.samplers.speculative.verification import Drafts, Window

CASES = cases()
CODES, SIZE = 2, 4
ORDER = torch.tensor([2, 0, 3, 1])


def toy():
    """A tiny RAR with random weights: its conditionals follow from no law of the whole."""
    sizes = {"width": 8, "depth": 1, "heads": 2, "hidden_width": 8, "vocab": CODES, "classes": 2}
    backbone = RARConfig(grid=(1, 2, 2), **sizes).build().eval()
    head = CategoricalConfig(width=8, vocab=CODES, plain=True).build().eval()
    torch.manual_seed(0)
    shaken(backbone, 0.5)
    shaken(head, 0.4)
    return SimpleNamespace(backbone=backbone, heads=[head])


MODEL, PLAN = toy(), custom(Grid(1, 2, 2), ORDER)


@torch.no_grad()
def chain_law(scales=(1.0,) * SIZE):
    """Probability of every canvas, token after token along the order, from parallel passes.

    Args:
        scales: Guidance of the steps.
    """
    canvases = torch.tensor(list(product(range(CODES), repeat=SIZE)))
    cond = Cond(len(canvases), label=torch.zeros(len(canvases), dtype=torch.long))
    null = replace(cond, drop=torch.ones(len(canvases), dtype=torch.bool))
    own, without = (
        MODEL.heads[0].predict(MODEL.backbone.features(Tokens.of(canvases), each, PLAN)).double()
        for each in (cond, null)
    )
    scale = torch.empty(SIZE, 1, dtype=torch.float64)
    scale[ORDER, 0] = torch.tensor(scales, dtype=torch.float64)
    logits = without + scale * (own - without)
    logs = logits.log_softmax(-1).gather(-1, canvases[..., None])[..., 0]
    return dict(zip(map(tuple, canvases.tolist()), logs.sum(1).exp().tolist(), strict=True))


def drawn_law(length, **options):
    def program(script):
        run = begin(MODEL, PLAN, Scripted(script, 1), **options)
        cond = Cond(1, label=torch.zeros(1, dtype=torch.long))
        run.state = MODEL.backbone.start(cond, PLAN, run.state.branches)
        list(AnySubset(length).draw(MODEL, run))
        return tuple(run.tokens.values[0].tolist())

    return all_outcomes(program)


def error():
    """Distance from the law of the chain where the first token of the order, that at 2, is given."""
    expected = {canvas: chance for canvas, chance in chain_law().items() if canvas[2] == 1}
    total = sum(expected.values())
    return distance(
        drawn_law(3, given=[[-1, -1, 1, -1]]), {canvas: p / total for canvas, p in expected.items()}
    )


@pytest.mark.parametrize("length", [1, 9])
def test_a_canvas_has_the_law_of_the_chain_along_the_order(length):
    assert distance(drawn_law(length), chain_law()) < 1e-6


def test_guidance_follows_its_schedule_along_the_order():
    law = drawn_law(3, control=Control(guidance=schedules.over_steps(1.0, 4.0)))
    assert distance(law, chain_law((1.0, 2.0, 3.0, 4.0))) < 1e-5
    for wrong in ((1.0,) * 4, (4.0,) * 4, (4.0, 3.0, 2.0, 1.0)):
        assert distance(law, chain_law(wrong)) > 0.01


def test_given_tokens_stay_and_the_others_have_the_law_after_them():
    """The order is 2, 0, 3, 1; the token at 0 is given."""
    expected, whole = {}, chain_law()
    for canvas, chance in whole.items():
        if canvas[0] == 1:
            both = [
                sum(p for c, p in whole.items() if (c[2], c[0]) == (canvas[2], code)) for code in range(CODES)
            ]
            expected[canvas] = chance * sum(both) / both[1]
    assert distance(drawn_law(3, given=[[1, -1, -1, -1]]), expected) < 1e-6
    assert error() < 1e-6


def replaced_from_target(p, q, codes):
    return Verdict(chain(p, q, codes).keep, law(p))


def all_kept(p, q, codes):
    return Verdict(torch.ones_like(codes, dtype=torch.float64), law(p))


@pytest.mark.parametrize("twin", [replaced_from_target, all_kept])
def test_wrong_rules_have_another_law(twin):
    with patch.object(verification, "chain", twin):
        assert error() > 0.01


def test_going_on_after_a_replaced_token_has_another_law():
    with patch.object(Window, "_settled", lambda self, group: torch.ones(1, 1, dtype=torch.bool)):
        assert error() > 0.01


def test_drafts_judged_by_another_law_than_they_were_drawn_from_have_another_law():
    right = Drafts.put

    def wrong(self, k, group, values, drawn_from):
        right(self, k, group, values, drawn_from.flip(-1))

    with patch.object(Drafts, "put", wrong):
        assert error() > 0.01


@pytest.mark.parametrize("name", ["rar raster", "rar a sample"])
@pytest.mark.parametrize("length", [1, 4, 20])
def test_no_network_takes_more_calls_than_tokens(name, length):
    one = CASES[name]
    for seed in range(2):
        run = one.begin(seeds=[seed], plan=one.plan(1), labels=torch.tensor([0]))
        list(AnySubset(length).draw(one.model, run))
        assert bool(run.tokens.known.all())
        assert run.passes <= one.spec.layout.size


@pytest.mark.parametrize("name", ["rar raster", "rar a sample"])
def test_what_depends_on_nothing_is_drawn_at_once_after_the_first_token(name):
    alike = deepcopy(CASES[name])
    torch.nn.init.zeros_(alike.model.heads[0].output.weight)
    run = alike.begin()
    list(AnySubset(15).draw(alike.model, run))
    assert run.passes == 3


@pytest.mark.parametrize("name", ["rar raster", "rar a sample"])
def test_the_likeliest_codes_are_those_of_the_plain_loop(name):
    assert_likeliest_codes(AnySubset(5), CASES[name])


def test_a_seed_repeats_itself_and_a_run_forks_between_steps():
    assert_repeats_and_forks(AnySubset(4), CASES["rar a sample"])


def test_settings_and_models_that_cannot_are_refused_with_the_reason():
    with pytest.raises(ArzooError, match="number of tokens to draft must be"):
        AnySubset(0)
    for name, words in {
        "transformer raster": "backbone llamagen cannot: its inputs do not say which position they predict",
        "mar codes": "backbone mar reads all tokens anew",
    }.items():
        with pytest.raises(ArzooError, match=words):
            list(AnySubset(4).draw(CASES[name].model, CASES[name].begin()))
