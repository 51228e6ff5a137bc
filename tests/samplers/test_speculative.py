"""Speculative Jacobi decoding and drafting by a smaller model have the law of the plain loop; their wrong twins do not.

On tables, all outcomes of the random choices are enumerated: the law is exact, up to the float32 of the logits.
"""

from functools import cache
from unittest.mock import patch

import pytest
import torch
from contracts.cases import LINE, case, cases
from contracts.networks import transformer
from speculations import assert_likeliest_codes, assert_repeats_and_forks, error, pairs, toy
from tables import (
    chance_of,
    distance,
    drawn_law,
    law_of_canvas,
    model_of,
    of_row,
    plan_of,
    random_laws,
    same_noise,
)

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.state import State
from arzoo.core.tokens import TokenSpec
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.speculative import verification
from arzoo.samplers.speculative.chain import Verdict, chain, law
from arzoo.samplers.speculative.draft import Draft
from arzoo.samplers.speculative.sjd import SpeculativeJacobi
from arzoo.samplers.speculative.verification import Window
from arzoo.samplers.stopping import stop_rule

NEAR = 1e-6
METHODS = {
    "fresh": lambda other: SpeculativeJacobi(3),
    "maximal": lambda other: SpeculativeJacobi(3, "maximal"),
    "gumbel": lambda other: SpeculativeJacobi(3, "gumbel"),
    "chain": lambda other: Draft(other, 2, "chain"),
    "block": lambda other: Draft(other, 2),
}
JACOBI = ("fresh", "maximal", "gumbel")


def error_of(name, sizes, codes=2, seed=0, parts=4):
    return error(METHODS[name], sizes, codes, seed, parts)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 1, 1), (1, 2, 1)])
@pytest.mark.parametrize("name", METHODS)
def test_a_canvas_has_the_law_of_the_plain_loop(name, sizes):
    assert error_of(name, sizes) < NEAR


@pytest.mark.parametrize("name", METHODS)
def test_so_it_has_with_more_codes_and_laws_without_gaps(name):
    assert error_of(name, (1, 1, 1), codes=3, seed=3, parts=4 if name == "gumbel" else None) < NEAR


@pytest.mark.parametrize("name", METHODS)
def test_every_sample_of_a_batch_has_it_and_none_depends_on_another(name):
    plan, laws, other = toy((1, 1, 1), seed=5, parts=2)
    method = METHODS[name](other)
    if name == "gumbel":
        plan, laws, other = toy((1, 1), seed=5, parts=4)
    assert distance(drawn_law(method, plan, laws, batch=2), pairs(law_of_canvas(plan, laws, 2))) < NEAR


@pytest.mark.parametrize("name", METHODS)
def test_guidance_follows_its_schedule_within_a_window(name):
    plan, laws, other = toy((1, 1, 1))
    null = random_laws(plan, 2, 7)
    control = Control(guidance=schedules.over_steps(1.0, 2.0), temperature=1.5)
    guided, steps = [], len(plan)
    for k, (own, without) in enumerate(zip(laws, null, strict=True)):
        scale = 1 + k / (steps - 1)
        guided.append(((without.log() + scale * (own.log() - without.log())) / 1.5).exp())
    if name == "gumbel":
        name = "maximal"  # a few noises have no law of every number
    law = drawn_law(METHODS[name](other), plan, laws, null=null, control=control)
    assert distance(of_row(law, 0), law_of_canvas(plan, guided, 2)) < NEAR


@pytest.mark.parametrize("name", METHODS)
def test_given_tokens_stay_and_the_others_have_the_law_after_them(name):
    plan, laws, other = toy((1, 2, 1), parts=4)
    given = [[-1, -1, 1, -1]]
    expected, whole = {}, law_of_canvas(plan, [laws[0], laws[1].clone(), laws[2]], 2)
    own = laws[1]
    for canvas, chance in whole.items():
        share = float(own[canvas[0]][1][canvas[2]])
        if canvas[2] == 1 and share:
            expected[canvas] = chance / share
    lost = 1 - sum(expected.values())
    assert lost < 1e-9, "every context of this toy may draw what is given"
    assert distance(of_row(drawn_law(METHODS[name](other), plan, laws, given=given), 0), expected) < NEAR


# Wrong twins


def from_target(p, q, codes):
    """A draft is replaced from the target instead of the residual."""
    return Verdict(chain(p, q, codes).keep, law(p))


def likely(self, k, window):
    """A likely draft is kept, as if it were drawn from the new law."""
    new, old = window.laws[k], window.drafts.tokens.at(window.run.plan.groups[k])
    kept = new.gather(-1, old[..., None])[..., 0] > 0.4
    return torch.where(kept, old, window.streams[k].categorical(new))


def coupled_wrongly(self, k, window):
    """Drafts that are not kept are drawn from the new law instead of the residual."""
    codes, old = window.drafts.tokens.at(window.run.plan.groups[k])[..., None], window.drafts.laws.get(k)
    if old is None:
        return window.streams[k].categorical(window.laws[k])
    return from_target(window.laws[k], old, codes).choose(codes, window.streams[k])[0]


@pytest.mark.parametrize(("name", "least"), [("fresh", 0.01), ("gumbel", 0.01), ("chain", 0.05)])
def test_replacing_from_the_target_has_another_law(name, least):
    judge = patch.object(
        SpeculativeJacobi, "verdict", lambda self, proposal, p, q, codes: from_target(p, q, codes)
    )
    with judge, patch.object(verification, "chain", from_target):
        assert error_of(name, (1, 1, 1, 1)) > least


@pytest.mark.parametrize("name", METHODS)
def test_going_on_after_a_replaced_token_has_another_law(name):
    def settled(self, group):
        return torch.ones(len(self.run.tokens.values), group.shape[1], dtype=torch.bool)

    with patch.object(Window, "_settled", settled):
        assert error_of(name, (1, 1, 1, 1)) > 0.01


@pytest.mark.parametrize("twin", [likely, coupled_wrongly])
def test_drafting_anew_without_a_coupling_has_another_law(twin):
    with patch.object(SpeculativeJacobi, "_again", twin):
        assert error_of("fresh", (1, 1, 1, 1)) > 0.002


@pytest.mark.parametrize("name", METHODS)
def test_wrong_drafts_left_in_the_cache_have_another_law(name):
    with patch.object(State, "rewind", lambda self, step: self):
        assert error_of(name, (1, 1, 1, 1)) > 0.01


@pytest.mark.parametrize("put_back", [False, True])
def test_tokens_that_were_tested_and_put_back_have_another_law(put_back):
    """As if in every call another sample had replaced its first token."""
    plan, laws, _ = toy((1, 1, 1, 1))
    kept = set()

    def chain_of_one(self, *rule):
        whole = chain_of(self, *rule)
        kept.clear()
        for k, (_, values) in enumerate(whole, self.run.k):
            if (
                put_back
                and k in self.drafts.laws
                and torch.equal(values, self.drafts.tokens.at(plan.groups[k]))
            ):
                kept.add(k)
        return whole[:1]

    def again(self, k, window):
        if k not in kept:
            return draft(self, k, window)
        window.laws[k] = window.drafts.laws[k]
        return window.drafts.tokens.at(plan.groups[k])

    chain_of, draft = Window.chain, SpeculativeJacobi._again
    with patch.object(Window, "chain", chain_of_one), patch.object(SpeculativeJacobi, "_again", again):
        law = of_row(drawn_law(SpeculativeJacobi(3), plan, laws), 0)
    off = distance(law, law_of_canvas(plan, laws, 2))
    assert (off > 0.002) if put_back else (off < NEAR)


# Networks


networks = cache(cases)


def other_of(name):
    """Another network of the same kind."""
    return networks(9)[name].model


NETWORKS = ["transformer raster", "transformer parallel", "transformer next-neighbor clip", "rar a sample"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_likeliest_codes_are_those_of_the_plain_loop(name, method):
    assert_likeliest_codes(METHODS[method](other_of(name)), networks()[name])


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_itself_and_a_run_forks_between_steps(method):
    name = "transformer raster"
    assert_repeats_and_forks(METHODS[method](other_of(name)), networks()[name])


@pytest.mark.parametrize("method", METHODS)
def test_pictures_end_where_those_of_the_plain_loop_do(method):
    torch.manual_seed(8)
    spec = TokenSpec(LINE, vocab=11, prefix_ok=True, ends=True)
    one, other = (
        case(spec, ordered(LINE), transformer(TokenSpec(Grid(1, 1, 12), vocab=11), learned_positions=True))
        for _ in range(2)
    )
    runs = [one.begin(seeds=list(range(4)), control=Control(greedy=True)) for _ in range(2)]
    steps = len(list(generate(one.model, runs[0], stop_rule(spec))))
    assert len(list(METHODS[method](other.model).draw(one.model, runs[1], stop_rule(spec)))) == steps
    tokens, drawn = runs[0].tokens, runs[1].tokens
    assert torch.equal(tokens.length, drawn.length)
    assert len(tokens.length.unique()) > 1, "some end early"
    assert torch.equal(tokens.values[tokens.kept], drawn.values[drawn.kept])


@pytest.mark.parametrize("verification", ["chain", "block"])
def test_a_model_that_drafts_for_itself_is_never_wrong(verification):
    one = networks()["transformer raster"]
    for length, calls in ((1, 1 + 8), (2, 1 + 5), (4, 1 + 3), (15, 1 + 1)):
        run = one.begin()
        list(Draft(one.model, length, verification).draw(one.model, run))
        assert run.passes == calls
        # All steps are drafted but the first one, and one that comes free with every call.
        assert run.draft_passes == 15 - (calls - 1)


def test_what_drafts_without_guidance_reads_half_the_rows():
    one, other = networks()["transformer raster"], other_of("transformer raster")
    rows = {}
    for guidance in (True, False):
        with patch.object(other.backbone, "trunk", wraps=other.backbone.trunk) as trunk:
            list(Draft(other, 3, guidance=guidance).draw(one.model, one.begin()))
        rows[guidance] = {len(call.args[0]) for call in trunk.call_args_list}
    assert rows == {True: {6}, False: {3}}


def chance(name):
    """See `chance_of`, of 6000 canvases of 27 kinds."""
    plan, laws, other = toy((1, 1, 1), codes=3, seed=3)
    return chance_of(METHODS[name](other), plan, laws, 3)


@pytest.mark.parametrize("name", METHODS)
def test_samples_with_real_noise_have_the_law(name):
    assert chance(name) > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_drafts_and_decisions_with_the_same_noise_have_another_law(name):
    with same_noise():
        assert chance(name) < 1e-6


def test_every_attempt_at_a_step_has_numbers_of_its_own():
    draws = Draws([3, 4])
    places = [(step, attempt) for step in range(3) for attempt in range(4)]
    numbers = torch.stack([draws.at(*place).uniform((2, 2)) for place in places])
    assert len(numbers.unique()) == numbers.numel()
    assert torch.equal(draws.at(2).uniform((2, 2)), draws.at(2, 0).uniform((2, 2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda one: SpeculativeJacobi(0), "window of speculative Jacobi"),
        (
            lambda one: SpeculativeJacobi(4, "some"),
            "setting 'coupling' must be one of 'none', 'maximal', 'gumbel', got str 'some'",
        ),
        (lambda one: Draft(one, 0), "number of steps to draft must be"),
        (
            lambda one: Draft(one, 2, "tree"),
            "setting 'verification' must be one of 'chain', 'block', got str 'tree'",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(ArzooError, match=words):
        make(networks()["transformer raster"].model)


def test_models_that_cannot_and_drafts_of_other_codes_are_refused():
    all_cases = networks()
    one = all_cases["transformer raster"]
    refused = {
        "transformer codebooks": (
            SpeculativeJacobi(4),
            "head depth does not tell the probability of every token",
        ),
        "mar codes": (SpeculativeJacobi(4), "backbone mar reads all tokens anew"),
        "transformer raster": (
            Draft(all_cases["mar codes"].model),
            "the model that drafts cannot do so: backbone mar reads all",
        ),
    }
    for name, (method, words) in refused.items():
        with pytest.raises(ArzooError, match=words):
            list(method.draw(all_cases[name].model, all_cases[name].begin()))
    fewer = model_of(plan_of(1), random_laws(plan_of(1), 3, 0))
    with pytest.raises(ArzooError, match="the model that drafts draws 3 codes, the other one 11"):
        list(Draft(fewer).draw(one.model, one.begin()))
