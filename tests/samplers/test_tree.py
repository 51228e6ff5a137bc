"""Trees of drafts have the law of the plain loop, with every rule for candidates; their wrong twins do not."""

from unittest.mock import patch

import pytest
import tables
import torch
from contracts.cases import cases
from speculations import assert_likeliest_codes, assert_repeats_and_forks, error, pairs, toy
from tables import (
    Scripted,
    begin,
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
from arzoo.core.state import State
from arzoo.samplers import schedules
from arzoo.samplers.speculative import tree as module
from arzoo.samplers.speculative.candidates import RULES, Rule, distinct
from arzoo.samplers.speculative.chain import Verdict
from arzoo.samplers.speculative.draft import Draft
from arzoo.samplers.speculative.tree import Tree


def error_of(sizes, widths, rule, codes=2):
    return error(lambda other: Tree(other, widths, rule), sizes, codes)


@pytest.mark.parametrize("rule", RULES)
def test_a_canvas_has_the_law_of_the_plain_loop(rule):
    assert error_of((1, 1, 1), (2,), rule) < 1e-6


@pytest.mark.parametrize("rule", ["distinct", "recursive"])
def test_so_it_has_with_ranks_of_several_tokens(rule):
    assert error_of((1, 2, 1), (2,), rule) < 1e-6


@pytest.mark.parametrize("widths", [(2, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("rule", ["distinct", "top"])
def test_so_it_has_with_several_levels_of_candidates(rule, widths):
    assert error_of((1, 1, 1, 1), widths, rule) < 1e-6


def test_every_sample_of_a_batch_has_it_and_none_depends_on_another():
    plan, laws, other = toy((1, 1, 1), seed=5)  # the first token is not drafted, the last one never
    together = drawn_law(Tree(other, (2,)), plan, laws, batch=2)
    assert distance(together, pairs(law_of_canvas(plan, laws, 2))) < 1e-6


def test_samples_that_share_their_randomness_depend_on_each_other():
    class Coupled(Scripted):
        """Wrong: all samples take the candidates of the first one."""

        def distinct(self, log_probs, count):
            return super().distinct(log_probs[:1], count).expand(len(log_probs), -1, -1)

    plan, laws, other = toy((1, 1, 1), seed=5)
    with patch.object(tables, "Scripted", Coupled):
        together = drawn_law(Tree(other, (2,)), plan, laws, batch=2)
    assert distance(of_row(together, 0), law_of_canvas(plan, laws, 2)) < 1e-6, "each alone has the right law"
    assert distance(together, pairs(law_of_canvas(plan, laws, 2))) > 0.01


@pytest.mark.parametrize(
    ("rule", "widths"), [("distinct", (2, 2)), ("recursive", (2,)), ("k_seq", (2,)), ("top", (2, 1))]
)
def test_guidance_follows_its_schedule_over_the_levels(rule, widths):
    """The law is that of the guided predictions of the model; those of the draft are guided as well."""
    plan, laws, other = toy((1, 1, 1))
    null, control = random_laws(plan, 2, 7), Control(guidance=schedules.over_steps(1.0, 3.0))
    guided = [
        (without.log() + scale * (own.log() - without.log())).exp()
        for scale, own, without in zip((1.0, 2.0, 3.0), laws, null, strict=True)
    ]
    law = of_row(drawn_law(Tree(other, widths, rule), plan, laws, null=null, control=control), 0)
    assert distance(law, law_of_canvas(plan, guided, 2)) < 1e-5
    for scales in ((1.0, 1.0, 1.0), (3.0, 3.0, 3.0)):
        wrong = [
            (without.log() + scale * (own.log() - without.log())).exp()
            for scale, own, without in zip(scales, laws, null, strict=True)
        ]
        assert distance(law, law_of_canvas(plan, wrong, 2)) > 0.01


def always_first(p, q, codes):
    """The first candidate, as if the draft were right."""
    verdict = RULES["recursive"].judge(p, q, codes)
    return Verdict(torch.ones_like(verdict.keep), verdict.rest)


def other_law(p, q, codes):
    """A token that is no candidate comes from the target instead of what is left of it."""
    return Verdict(distinct(p, q, codes).keep, p)


@pytest.mark.parametrize("twin", [always_first, other_law])
def test_wrong_rules_have_another_law(twin):
    with patch.dict(RULES, distinct=Rule(RULES["distinct"].draw, twin)):
        assert error_of((1, 1, 1), (2, 2), "distinct", codes=3 if twin is other_law else 2) > 0.01


def test_candidates_of_a_wrong_node_have_another_law():
    right = module._child

    def wrong(index, free, width):
        child, kept = right(index, free, width)
        return (child + 1) % width, kept

    with patch.object(module, "_child", wrong):
        assert error_of((1, 1, 1, 1), (2, 2), "distinct") > 0.01


def test_going_on_where_tokens_of_a_rank_are_different_candidates_has_another_law():
    def wrong(index, free, width):
        return index.amin(1).clamp(max=width - 1), torch.ones(len(index), dtype=torch.bool)

    with patch.object(module, "_child", wrong):
        assert error_of((1, 2, 1), (2, 1), "distinct") > 0.01


def test_wrong_drafts_left_in_the_cache_have_another_law():
    with patch.object(State, "rewind", lambda self, step: self):
        assert error_of((1, 1, 1, 1), (1, 1), "distinct") > 0.01


@pytest.mark.parametrize("method", [lambda other: Draft(other, 3), lambda other: Tree(other, (1, 1, 1))])
def test_a_wrong_draft_before_a_given_token_is_forgotten(method):
    """The second token is drafted wrongly, the third given; the fourth follows the second, and is drafted rightly."""
    plan, certain = plan_of(1, 1, 1, 1, 1), torch.eye(2, dtype=torch.float64)
    second = torch.arange(8) // 2 % 2
    laws = [certain[torch.zeros(2**k, 1, dtype=torch.long)] for k in range(5)]
    laws[3] = certain[second][:, None]
    target = [laws[0], laws[1].flip(-1), *laws[2:]]
    model = model_of(plan, target)
    run = begin(model, plan, Draws([0]), given=[[-1, -1, 0, -1, -1]])
    list(method(model_of(plan, laws)).draw(model, run))
    assert run.tokens.values.tolist() == [[0, 1, 0, 1, 0]]
    assert run.passes == 3  # the first token, the second, and the other two


CASES, OTHERS = cases(), cases(seed=9)


def other_of(name):
    """Another network of the same kind."""
    return OTHERS[name].model


@pytest.mark.parametrize(
    "name", ["transformer raster", "transformer parallel", "rar a sample", "next-block hybrid"]
)
def test_the_likeliest_codes_are_those_of_the_plain_loop(name):
    assert_likeliest_codes(Tree(other_of(name), (3, 2)), CASES[name])


def test_a_model_that_drafts_for_itself_is_never_wrong_and_wide_trees_help_another():
    one, name = CASES["transformer raster"], "transformer raster"
    run = one.begin()
    list(Tree(one.model, (2, 1, 2)).draw(one.model, run))
    assert run.passes == 1 + 4  # the first token, then four a call
    assert run.draft_passes == 3 * 3 + 2
    calls = []
    for widths in ((1,), (4,)):
        runs = [one.begin(seeds=[seed], labels=torch.tensor([0])) for seed in range(3)]
        for each in runs:
            list(Tree(other_of(name), widths).draw(one.model, each))
        calls.append(sum(each.passes for each in runs))
    assert calls[1] < calls[0]


def test_a_seed_repeats_itself_and_a_run_forks_between_steps():
    assert_repeats_and_forks(Tree(other_of("transformer raster"), (2, 2)), CASES["transformer raster"])


def test_samples_with_real_noise_have_the_law_unless_drafts_and_decisions_share_it():
    plan, laws, other = toy((1, 1, 1), codes=3, seed=3)
    assert chance_of(Tree(other, (2, 2)), plan, laws, 3) > 1e-3
    with same_noise():
        assert chance_of(Tree(other, (2, 2)), plan, laws, 3) < 1e-6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": ()}, "at least one step of candidates"),
        ({"widths": (2, 0)}, "number of candidates of a node must be"),
        ({"rule": "best"}, "rule for candidates 'best'"),
        ({"widths": (12,)}, "at most 11 candidates"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    one = CASES["transformer raster"]
    with pytest.raises(ArzooError, match=words):
        list(Tree(one.model, **options).draw(one.model, one.begin()))
