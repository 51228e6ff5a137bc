"""Beam search: its candidates are a tree of different tokens, with the probabilities of the network."""

import itertools

import pytest
import torch
from searches import RASTER, begin, search

from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.lengths import fixed, linear
from arzoo.samplers.search.lookahead import Lookahead

PLAIN = Control(guidance=1.5)


def test_history_is_a_tree(networks):
    """Every candidate continues a survivor, in all tokens but its own, and siblings differ in the last one alone."""
    result = search(networks[RASTER], Beam(3, 4))
    for before, after in itertools.pairwise(result.history):
        assert len(after.scores) == 12
        assert set(after.parents.tolist()) <= set(before.kept.tolist())
        parents = before.tokens.values[after.parents]
        assert torch.equal(after.tokens.values[:, : before.steps], parents[:, : before.steps])
        families = after.tokens.values.view(3, 4, -1)
        assert bool((families[:, :, : after.steps - 1] == families[:, :1, : after.steps - 1]).all())
        assert all(len(set(codes)) == 4 for codes in families[:, :, after.steps - 1].tolist())
        assert before.kept.tolist() == before.scores.argsort(descending=True)[:3].tolist()


@pytest.mark.parametrize("greedy", [False, True])
def test_forked_caches_give_the_probabilities_of_a_whole_pass(networks, greedy):
    """Log-probabilities that a search adds up are those of the tokens in one parallel pass of the network."""
    case, control = networks[RASTER], Control(greedy=greedy)
    result = search(case, Beam(3, 4, lengths=linear(16, 3)), control=control)
    model = case.model
    values = result.history[-1].tokens.values
    cond = Cond(len(values), label=torch.full((len(values),), 2))
    read = model.backbone.features(Tokens.of(values), cond, case.plan(1))
    whole = model.heads[0].predict(read).log_softmax(-1).gather(-1, values[..., None])[..., 0].sum(1)
    assert torch.allclose(result.history[-1].log_probs, whole, atol=1e-4)


def test_all_codes_as_candidates_are_exhaustive(networks):
    """With every code as a candidate, width 1 finds the best code of each step."""
    case = networks[RASTER]
    vocab = case.spec.vocab
    for control in (Control(), Control(greedy=True)):
        result = search(case, Beam(1, vocab, lengths=fixed(16)), control=control)
        assert bool((result.tokens.values == vocab - 1).all()), "brightness rises with the code"


def test_looking_ahead_leaves_the_draws_alone(networks):
    """A verifier that looks at the first tokens only keeps the same beams, whatever is drawn ahead."""
    case = networks[RASTER]
    algorithms = [
        kind(3, 4, lengths=(1, 2, 4), **options)
        for kind, options in ((Beam, {}), (Lookahead, {"ahead": 3}), (Lookahead, {"ahead": -1}))
    ]
    plain, some, all_ = (search(case, algorithm, lambda p: p[:, 0]) for algorithm in algorithms)
    for one, other, third in zip(plain.history, some.history, all_.history, strict=True):
        assert torch.equal(one.tokens.values, other.tokens.values)
        assert torch.equal(one.tokens.values, third.tokens.values)
    assert [int(r.tokens.known.sum()) for r in (plain, some, all_)] == [4, 7, 16]
    assert torch.equal(some.tokens.values[:, :4], plain.tokens.values[:, :4])


def test_completion_is_greedy_and_scored_again(networks):
    case = networks[RASTER]
    short = search(case, Beam(2, 3, lengths=(1, 3), results=2), control=PLAIN)
    whole = search(case, Beam(2, 3, lengths=(1, 3), results=2, complete=True), control=PLAIN)
    assert bool(whole.tokens.known.all())
    prefixes = {tuple(row[:3]) for row in short.tokens.values.tolist()}
    assert {tuple(row[:3]) for row in whole.tokens.values.tolist()} == prefixes
    for row in whole.tokens.values:
        known = (torch.arange(16) < 3)[None]
        rest = begin(case, Control(guidance=1.5, greedy=True), tokens=Tokens.of(row[None], known))
        assert torch.equal(case.finish(rest).tokens.values[0], row)
    assert whole.spent.verifications == short.spent.verifications + 2


def test_filters_leave_fewer_candidates(networks):
    """Codes without probability are no candidates."""
    case = networks[RASTER]
    result = search(case, Beam(2, 5, lengths=(1, 2)), control=Control(top_k=2))
    assert [len(each.scores) for each in result.history] == [2, 4]
    assert result.history[-1].log_probs.isfinite().all()


def test_fewer_candidates_of_one_order_a_sample(networks):
    """Candidates that filters leave out are no rows of what is given after them either."""
    case = networks["custom a sample"]
    run = begin(case)
    last = run.plan.groups[2][0]
    known = torch.zeros(1, 16, dtype=torch.bool).index_fill_(1, last, True)
    tokens = Tokens.of(torch.zeros(1, 16, dtype=torch.long), known)
    result = search(case, Beam(2, 5, lengths=(1, 3)), control=Control(top_k=2), tokens=tokens, plan=run.plan)
    assert [len(each.scores) for each in result.history] == [2, 4]
    assert bool(result.history[-1].tokens.known[:, last].all())
