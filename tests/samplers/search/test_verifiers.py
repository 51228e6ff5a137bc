"""Verifiers that need no network: ranks, ensembles and likelihood."""

import math
import re

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.samplers.search.result import best
from arzoo.samplers.verifiers.base import Candidates, PictureScore, PictureVerifier, Subject, scores_of
from arzoo.samplers.verifiers.ensemble import RankEnsemble, WeightEnsemble, ranks, scaled
from arzoo.samplers.verifiers.likelihood import Likelihood
from arzoo.samplers.verifiers.reconstruction import Reconstruction
from arzoo.samplers.verifiers.sharpness import Sharpness


def candidates(pictures, log_probs=None, last=None, count=4, drawn=4):
    return Candidates(
        Tokens.of(torch.zeros(len(pictures), 4, dtype=torch.long)), pictures, log_probs, last, count, drawn
    )


def column(i, scale=lambda x: x):
    return PictureScore(lambda pictures: scale(pictures[:, i]), f"column {i}")


def test_equal_scores_share_their_rank():
    scores = torch.tensor([3.0, 1.0, 3.0, 2.0, 1.0, 1.0])
    assert ranks(scores).tolist() == [0.5, 4, 0.5, 2, 4, 4]
    assert sorted(ranks(scores, published=True).tolist()) == [0, 1, 2, 3, 4, 5]
    distinct = torch.tensor([0.3, -1.0, 7.0, float("-inf")])
    assert ranks(distinct).tolist() == ranks(distinct, published=True).tolist() == [1, 2, 0, 3]
    assert best(scores, 3).tolist() == [0, 2, 3], "the first of equal scores"
    assert best(scores, 99).tolist() == [0, 2, 3, 1, 4, 5]
    assert sorted(best(scores, 3, published=True).tolist()) == [0, 2, 3]


def test_an_ensemble_follows_ranks_alone():
    pictures = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    plain = RankEnsemble([column(0), column(1)], [1, 3])
    bent = RankEnsemble([column(0, torch.exp), column(1, lambda x: 100 * x - 7)], [1, 3])
    score = plain.score(candidates(pictures))
    assert torch.equal(score, bent.score(candidates(pictures)))
    mean = (ranks(pictures[:, 0]) + 3 * ranks(pictures[:, 1])) / 4
    assert torch.allclose(score, 1 - mean / 8)
    alone = RankEnsemble([column(0)]).score(candidates(pictures))
    assert (alone.min(), alone.max()) == (0, 1)
    assert RankEnsemble([column(0)]).score(candidates(pictures[:1])).tolist() == [1]


def test_an_ensemble_says_what_its_members_need():
    ensemble = RankEnsemble([column(0), Likelihood(), lambda pictures: pictures[:, 1]])
    assert (ensemble.pictures, ensemble.calls) == (True, 3)
    assert not RankEnsemble([Likelihood()]).pictures
    with pytest.raises(ArzooError, match="'column 0' returned NaN"):
        RankEnsemble([column(0, lambda x: x * torch.nan)]).score(candidates(torch.ones(2, 1)))
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ArzooError, match="as many weights"):
            RankEnsemble([column(0), column(1)], weights)
    with pytest.raises(ArzooError, match="at least one verifier"):
        RankEnsemble([])


def test_likelihood_is_per_token():
    total, last = torch.tensor([-8.0, -4.0]), torch.tensor([-2.0, -3.0])
    those = candidates(torch.zeros(2, 1), total, last, count=4, drawn=2)
    assert Likelihood().score(those).tolist() == [-4, -2]
    assert Likelihood(published=True).score(those).tolist() == [-0.5, -0.75]


def test_a_verifier_that_raises_is_named():
    def broken(pictures):
        raise KeyError("weight")

    with pytest.raises(ArzooError, match="'broken' failed with KeyError: 'weight'") as caught:
        scores_of(PictureScore(broken), candidates(torch.ones(2, 1)))
    assert isinstance(caught.value.__cause__, KeyError)

    def full(pictures):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        scores_of(PictureScore(full), candidates(torch.ones(2, 1)))


def test_clips_score_the_mean_of_their_frames():
    class Red(PictureVerifier):
        def score_images(self, images):
            assert images.shape[1:] == (4, 4, 3)
            return images[..., 0].float().mean((1, 2))

    clips = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8)
    clips[1, 0, ..., 0] = 30
    assert scores_of(Red(), candidates(clips)).tolist() == [0, 10]


@pytest.mark.parametrize(
    ("scores", "got"),
    [
        (torch.zeros(6, 2), "shape (6, 2)"),
        (torch.zeros(2), "shape (2,)"),
        ([0.0] * 6, "list"),
        (None, "NoneType"),
    ],
)
def test_pictures_that_get_no_score_each(scores, got):
    class Odd(PictureVerifier):
        name = "odd"

        def score_images(self, images):
            return scores

    clips = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8)
    words = f"'odd' must return one real number per picture, a tensor (6,), got {got}"
    with pytest.raises(ArzooError, match=re.escape(words)):
        scores_of(Odd(), candidates(clips))


def test_whole_numbers_are_scores():
    class Count(PictureVerifier):
        def score_images(self, images):
            return images[..., 0].flatten(1).long().sum(1)

    assert scores_of(Count(), candidates(torch.ones(2, 2, 1, 3, 3, dtype=torch.uint8))).tolist() == [3, 3]


def test_distinct_codes_are_drawn_without_replacement():
    """First codes follow the distribution, pairs that of drawing twice without replacement; wrong draws do not."""
    probs, count = torch.tensor([0.5, 0.3, 0.2, 0.0]), 20000
    logs, expected = probs.log().expand(count, 4), probs[:, None] * probs / (1 - probs[:, None])
    expected.fill_diagonal_(0)

    def error(codes):
        """Largest difference of a pair's share and its probability."""
        places, ones = (codes[:, 0], codes[:, 1]), torch.ones(count)
        shares = torch.zeros(4, 4).index_put_(places, ones, accumulate=True) / count
        return float((shares - expected).abs().max())

    draws = Draws(range(count))
    assert error(draws.distinct(logs, 2)) < 0.015
    with_replacement = draws.categorical(logs.exp()[:, None].expand(-1, 2, -1))
    assert error(with_replacement) > 0.2
    assert Draws([1]).distinct(probs.log()[None], 4)[0, 3] == 3, "codes without mass come last"


def test_a_weighted_ensemble_scales_within_the_candidates():
    pictures = torch.tensor([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0 + 1e-9]], dtype=torch.float64)
    both = WeightEnsemble([column(0), column(1)], [3, 1])
    torch.testing.assert_close(
        both.score(candidates(pictures)), torch.tensor([0, 0.25, 1], dtype=torch.float64) * 0.75
    )
    assert scaled(torch.full((3,), 7.0)).tolist() == [0, 0, 0]
    extremes = scaled(torch.tensor([-math.inf, 2.0, 3.0, math.inf]))
    assert extremes.tolist() == [-math.inf, 0, 1, 1]
    assert scaled(torch.tensor([-math.inf, 2.0])).tolist() == [-math.inf, 0]
    off = WeightEnsemble([column(0), column(0, lambda x: torch.log(x))], [1, 0])
    assert off.score(candidates(pictures)).tolist() == [0, 0.25, 1], "a weight of 0 leaves a verifier out"


def test_sharpness_likes_noise():
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (1, 1, 8, 8, 3), dtype=torch.uint8, generator=rng)
    flat = torch.full_like(noise, 99)
    square = flat.clone()
    square[:, :, 2:6, 2:6] = 200
    scores = Sharpness().score(candidates(torch.cat([flat, square, noise])))
    assert scores[0] == 0
    assert scores[2] > scores[1] > 0


def test_reconstruction_compares_pixels():
    reference = torch.full((8, 8, 3), 100, dtype=torch.uint8)
    clips = reference.expand(3, 1, 8, 8, 3).clone()
    clips[1] += 10
    clips[2] += 100
    verifier = Reconstruction(Subject(reference=reference))
    scores = verifier.score(candidates(clips))
    assert scores.tolist() == pytest.approx([100, 10 * math.log10(255**2 / 100), 10 * math.log10(6.5025)])
    larger = Reconstruction(Subject(reference=reference.repeat(2, 2, 1)))
    torch.testing.assert_close(larger.score(candidates(clips)), scores)
    with pytest.raises(ArzooError, match=r"\(H, W, 3\) uint8, got torch.float32 \(8, 8, 3\)"):
        Reconstruction(Subject(reference=reference.float()))
