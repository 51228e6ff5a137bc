"""Search without a generator: the verifier alone draws, with tokens that are equally likely."""

import pytest
import torch
from ordered import TOKENIZERS, build

from arzoo.base.errors import ArzooError
from arzoo.generation.training_free import training_free
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.lengths import fixed


def red(pictures):
    """How red pictures (n, T, H, W, 3) are."""
    return pictures[..., 0].double().flatten(1).mean(1)


def test_a_verifier_draws_alone():
    """Token by token it gets further than as many whole samples, and no network is called."""
    tokenizer = build(TOKENIZERS["titok"])
    result = training_free(tokenizer, red, Beam(2, 8, lengths=fixed(4)), seed=3)
    assert result.pictures.stills.shape == (1, 16, 16, 3)
    assert result.pictures.token_counts.tolist() == [4]
    assert (result.spent.network_calls, result.spent.head_calls) == (0, 0)
    assert result.spent.decodes == 8 + 3 * 16
    assert float(red(result.pictures)) == pytest.approx(float(result.scores[0]), abs=0.5)
    whole = training_free(tokenizer, red, BestOfN(56), seed=3)
    assert result.scores[0] > whole.history[0].scores.mean() + whole.history[0].scores.std()
    again = training_free(tokenizer, red, Beam(2, 8, lengths=fixed(4)), seed=3)
    assert torch.equal(again.tokens.values, result.tokens.values)


def test_a_reference_is_approached():
    """Reference-guided search: a verifier that compares with a picture finds its first token among all codes."""
    tokenizer = build(TOKENIZERS["titok"])
    target = training_free(tokenizer, red, BestOfN(1), seed=9)
    reference = training_free(tokenizer, red, Beam(1, 32, lengths=(1,)), seed=9)

    def near(pictures):
        return -(pictures.double() - reference.pictures.double()).abs().flatten(1).mean(1)

    result = training_free(tokenizer, near, Beam(2, 32, lengths=fixed(1)), seed=1)
    assert float(result.scores[0]) == pytest.approx(0, abs=0.5)
    assert result.tokens.values[0, 0] == reference.tokens.values[0, 0]
    assert not torch.equal(target.pictures, result.pictures)


def test_the_published_search_and_its_budget():
    """By default a hundredth of the codes, but at least as many as the beam is wide."""
    result = training_free(build(TOKENIZERS["titok"]), red, budget=Budget(decodes=60))
    assert [len(each.scores) for each in result.history] == [5, 25, 25]
    assert result.stopped == "decodes"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TOKENIZERS["titok"].replace(any_prefix=False), "are no picture"),
        (TOKENIZERS["titok vectors"], "needs one code per position"),
    ],
)
def test_other_tokenizers_are_refused(config, words):
    with pytest.raises(ArzooError, match=words):
        training_free(build(config), red)
