"""Metrics against references on the same features, and their expected behavior."""

import math
import operator

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import entropy
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_kernel, poly_mmd
from torchvision.transforms.functional import gaussian_blur

import arzoo.data
from arzoo.base.errors import ArzooError
from arzoo.data.transforms import composite
from arzoo.metrics import selfcheck
from arzoo.metrics.scores.bootstrap import error_of_mean, resamples
from arzoo.metrics.scores.codebook import codebook_use, perplexity_error
from arzoo.metrics.scores.frechet import FrechetFrom, Gaussian, Statistics, frechet_distance
from arzoo.metrics.scores.inception_score import inception_score, inception_score_error
from arzoo.metrics.scores.kernel import (
    kernel_distance,
    kernel_distance_error,
    squared_mmd,
    subsets_in_words,
    subsets_of,
)
from arzoo.metrics.scores.neighbors import balls, nearest_distance, radii
from arzoo.metrics.scores.reconstruction import psnr, ssim
from arzoo.models.vision.features import feature_net, features, pooled


def pair(n=300, d=40, seed=0):
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn(n, d, generator=random).double() @ mix, torch.randn(
        n, d, generator=random
    ).double() + 0.3


def by_scipy(a, b):
    first, second = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    return shift + np.trace(first) + np.trace(second) - 2 * np.trace(sqrtm(first @ second).real)


def test_frechet_agrees_with_scipy_and_torchmetrics():
    a, b = pair()
    ours = frechet_distance(Statistics.of(a), Statistics.of(b))
    assert ours == pytest.approx(by_scipy(a, b), rel=1e-5)
    theirs = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert ours == pytest.approx(float(theirs), rel=1e-5)
    stored = Gaussian(a.mean(0), a.T.cov())
    assert frechet_distance(stored, Statistics.of(b)) == pytest.approx(ours, rel=1e-10)


def test_frechet_with_fewer_pictures_than_features():
    a, b = pair(n=25, d=60)
    ours = frechet_distance(Statistics.of(a), Statistics.of(b))
    assert ours == pytest.approx(by_scipy(a, b), rel=1e-5)
    whole = Statistics.of(a)
    assert frechet_distance(whole, whole) == pytest.approx(0, abs=1e-8 * float(whole.covariance.trace()))


@pytest.mark.parametrize(("n", "d"), [(25, 60), (90, 20)])
def test_frechet_of_resamples_is_that_of_repeated_rows(n, d):
    a, b = pair(n, d)
    distance = FrechetFrom(Statistics.of(b))
    score = distance.of_resamples(a)
    for times in resamples(n, 3):
        repeated = a.repeat_interleave(times, 0)
        assert score(times) == pytest.approx(distance(Statistics.of(repeated)), rel=1e-9)
        assert score(times) == pytest.approx(distance(Statistics.of(a, times)), rel=1e-9)


def test_one_picture_has_no_covariance():
    _, b = pair()
    with pytest.raises(ArzooError, match="at least two"):
        _ = Statistics.of(b[:1]).covariance


def test_kernel_distance_agrees_with_torchmetrics_and_is_unbiased():
    a, b = pair()
    theirs = poly_mmd(a, b, degree=3, gamma=None, coef=1.0)
    assert squared_mmd(a, b) == pytest.approx(float(theirs), rel=1e-5)
    assert poly_kernel(a, b).shape == (300, 300)
    error = kernel_distance_error(b[:150], b[150:], 50)
    assert abs(kernel_distance(b[:150], b[150:], subsets=20, size=100)) < 4 * error


def test_kernel_distance_against_sums_over_pairs():
    a, b = pair(n=7, d=3)

    def kernel(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    inside = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    across = sum(kernel(x, y) for x in a for y in b) / 49
    assert kernel_distance(a, b) == pytest.approx(inside - 2 * across, rel=1e-9)


@pytest.mark.parametrize(
    ("n", "m", "taken", "words"),
    [
        (1000, 3612, (100, 1000), "100 subsets of 1000"),
        (5000, 1000, (100, 1000), "100 subsets of 1000"),
        (170, 3612, (100, 170), "100 subsets of 170, all of the smaller set"),
        (12, 12, (1, 12), "1 subset of 12, all of both sets"),
        (1000, 1000, (1, 1000), "1 subset of 1000, all of both sets"),
    ],
)
def test_the_words_for_the_subsets_of_the_kernel_distance(monkeypatch, n, m, taken, words):
    assert (subsets_of(n, m), subsets_in_words(n, m)) == (taken, words)
    sizes = []
    monkeypatch.setattr(
        "arzoo.metrics.scores.kernel.squared_mmd", lambda x, y: sizes.append((len(x), len(y))) or 0.0
    )
    kernel_distance(torch.zeros(n, 1), torch.zeros(m, 1))
    assert sizes == [(taken[1], taken[1])] * taken[0]


def test_kernel_distance_takes_the_subsets_of_its_seed():
    a, b = pair(n=60, d=4)
    assert kernel_distance(a, b, 5, 20, seed=1) == kernel_distance(a, b, 5, 20, seed=1)
    assert kernel_distance(a, b, 5, 20, seed=1) != kernel_distance(a, b, 5, 20, seed=2)


def test_errors_are_those_of_other_draws():
    """Standard errors of one draw against the spread of the score over 40 draws of sets that do differ."""
    draws = [tuple(x[:, :6] / 8 for x in pair(n=120, d=10, seed=seed)) for seed in range(40)]
    draws = [(a, b + 0.5) for a, b in draws]
    kid = torch.tensor([squared_mmd(a, b) for a, b in draws]).std()
    guessed = np.mean([kernel_distance_error(a, b, 40) for a, b in draws[:8]])
    assert guessed == pytest.approx(float(kid), rel=0.4)
    score = torch.tensor([inception_score(a, splits=1) for a, _ in draws]).std()
    guessed = np.mean([inception_score_error(a, 40) for a, _ in draws[:8]])
    assert guessed == pytest.approx(float(score), rel=0.4)
    values = draws[0][0][:, 0]
    assert error_of_mean(values, 400) == pytest.approx(float(values.std() / 120**0.5), rel=0.15)
    assert error_of_mean(values, 0) is None


class Logits(torch.nn.Module):
    """Hands logits on to torchmetrics, which wants a network."""

    def forward(self, x):
        return x


def test_inception_score_agrees_with_torchmetrics_and_scipy():
    logits = pair()[0] / 10
    theirs = InceptionScore(feature=Logits(), splits=1)
    theirs.update(logits)
    ours = inception_score(logits, splits=1)
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-5)
    p = logits.softmax(1).numpy()
    assert ours == pytest.approx(math.exp(np.mean([entropy(row, p.mean(0)) for row in p])), rel=1e-5)
    order = np.random.RandomState(2020).permutation(300)
    parts = [p[order[i : i + 30]] for i in range(0, 300, 30)]
    split = np.mean([math.exp(np.mean([entropy(row, part.mean(0)) for row in part])) for part in parts])
    assert inception_score(logits) == pytest.approx(split, rel=1e-5)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("k", [3, 5])
def test_neighbors_against_loops(k, closed):
    a, b = (x[:n, :4] for x, n in zip(pair(n=40, d=6), (40, 33), strict=True))

    def reach(points, i):
        far = sorted(float((points[i] - points[j]).norm()) for j in range(len(points)) if j != i)
        return far[k - 1]

    real = [reach(b, i) for i in range(len(b))]
    assert radii(b, k).tolist() == pytest.approx(real)
    within = operator.le if closed else operator.lt
    held = [[within(float((x - y).norm()), r) for y, r in zip(b, real, strict=True)] for x in a]
    found = balls(a, b, radii(b, k), closed)
    assert found.inside.tolist() == [sum(row) for row in held]
    assert found.hit.tolist() == [any(column) for column in zip(*held, strict=True)]


def test_balls_are_open_or_closed():
    line, points = torch.arange(3.0)[:, None], torch.tensor([[3.0]])
    assert balls(points, line, radii(line, 1), True).inside.tolist() == [1]
    assert balls(points, line, radii(line, 1), False).inside.tolist() == [0]


def test_reconstruction_scores():
    a = torch.full((2, 32, 32, 3), 100, dtype=torch.uint8)
    b = a + 10
    assert psnr(a, b).tolist() == pytest.approx([20 * np.log10(25.5)] * 2)
    assert torch.isinf(psnr(a, a)).all()
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_feature_net_is_deterministic_and_sees_blur():
    images = composite(arzoo.data.load("emoji64").images[::320])
    found = pooled(feature_net(), images, batch=5)
    assert found.shape == (12, feature_net().width)
    assert len(feature_net().sha256) == 64
    torch.testing.assert_close(found, pooled(feature_net(), images, batch=12), rtol=1e-4, atol=1e-4)
    assert feature_net()(images[:2]).logits.shape == (2, 1000)
    scores = []
    for sigma in (0.7, 1.5, 3.0):
        blurred = gaussian_blur(images.permute(0, 3, 1, 2), 15, [sigma, sigma]).permute(0, 2, 3, 1)
        scores.append(float((features(blurred) - found).square().mean()))
    assert scores == sorted(scores)
    with pytest.raises(ArzooError, match="uint8"):
        features(images.float())
    assert not feature_net().train().training


def test_nearest_distance_finds_copies():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert nearest_distance(x, torch.cat([-x, x])).abs().max() < 1e-6


def test_codebook_use():
    used, perplexity = codebook_use(torch.tensor([[0, 1], [2, 3]]), 16)
    assert used == 4
    assert perplexity == pytest.approx(4)


def test_the_error_of_the_perplexity_is_that_of_other_pictures():
    """Pictures of 12 codes that keep to a part of the codebook each, against the spread over 60 draws."""
    random = torch.Generator().manual_seed(0)

    def draw():
        part = torch.randint(8, (150, 1), generator=random) ** 2 // 8
        return 4 * part + torch.randint(4, (150, 12), generator=random)

    draws = [draw() for _ in range(60)]
    spread = torch.tensor([codebook_use(codes, 32)[1] for codes in draws]).std()
    guessed = np.mean([perplexity_error(codes, 32, 40) for codes in draws[:8]])
    assert guessed == pytest.approx(float(spread), rel=0.4)
    alone = np.mean([perplexity_error(codes.reshape(-1, 1), 32, 40) for codes in draws[:8]])
    assert alone < guessed / 2, "codes of a picture are not independent"
    assert perplexity_error(draws[0], 32, 0) is None


def test_self_check_passes_and_notices_a_changed_metric(monkeypatch):
    checks = selfcheck.self_check()
    assert len(checks) > 12
    monkeypatch.setattr(selfcheck, "squared_mmd", lambda x, y: squared_mmd(x, y) * 1.00001)
    with pytest.raises(ArzooError, match=r"squared MMD of zeros and ones gives 7\.00007"):
        selfcheck.self_check()
