"""Cautious drawing tries several continuations where the next token is uncertain, and only there."""

import torch
from searches import RASTER, begin, decode, mean

from arzoo.core.control import Control
from arzoo.samplers.loop import propose
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.pool import entropy
from arzoo.samplers.verifiers.likelihood import Likelihood

PLAIN = Control()


def test_trials_begin_where_the_entropy_is_high(networks):
    """The first comparison is of trials from the first token; later ones begin in the upper quantile."""
    case = networks[RASTER]
    result = Cautious(4, share=0.3)(case.model, begin(case, PLAIN), mean, decode)
    first = result.history[0]
    assert first.steps == 4, "a row"
    assert len(set(first.tokens.values[:, 0].tolist())) == 4, "trials begin with different tokens"
    parent = first.tokens.values[first.kept[0]]
    for each in result.history:
        if len(each.scores) < 2:
            continue
        rows = each.tokens.values
        start = int((rows != rows[:1]).any(0).nonzero()[0])  # the first token that differs
        run = begin(case, PLAIN)
        run.tokens.values[0] = rows[0]
        entropies = []
        for k in range(start + 1):
            run.k = k
            entropies.append(float(entropy(run, propose(case.model, run))))
            run.tokens.mark_known(run.plan.groups[k])
        assert sum(h > entropies[-1] for h in entropies) < 0.3 * len(entropies)
    assert torch.equal(result.history[-1].tokens.values[0, :4], parent[:4])
    calls = result.spent.network_calls
    assert 16 < calls < Cautious(4, share=1)(case.model, begin(case, PLAIN), mean, decode).spent.network_calls


def test_with_likelihood_the_least_perplexity_is_kept(networks):
    case = networks[RASTER]
    result = Cautious(5)(case.model, begin(case, PLAIN), Likelihood())
    for each in result.history:
        assert int(each.kept[0]) == int(each.log_probs.argmax())
    whole = result.history[-1]
    assert torch.allclose(result.scores, whole.log_probs.max()[None] / 16)
    assert result.spent.decodes == 0


def test_vectors_are_tried_from_every_length_on(networks):
    case = networks["transformer vectors"]
    result = Cautious(3)(case.model, begin(case), mean, decode)
    assert [len(each.scores) for each in result.history] == [3] * 4


def test_a_budget_takes_trials_away(networks):
    case = networks[RASTER]
    for most in (16, 20, 30, 45):
        result = Cautious(6, share=1)(
            case.model, begin(case, PLAIN), mean, decode, Budget(network_calls=most)
        )
        assert result.spent.network_calls <= most
        assert result.stopped == "network_calls"
        assert bool(result.tokens.known.all())
    plain = Cautious(6)(case.model, begin(case, PLAIN), mean, decode, Budget(decodes=1))
    assert torch.equal(plain.tokens.values, case.finish(begin(case, PLAIN)).tokens.values), "the plain sample"
    assert [each.steps for each in plain.history] == [16]
