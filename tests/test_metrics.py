"""Metrics against references on the same features, and their expected behaviour."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_kernel, poly_mmd
from torchvision.transforms.functional import gaussian_blur

import arzoo.data
from arzoo.data.transforms import composite
from arzoo.errors import ArzooError
from arzoo.metrics.codebook import codebook_use
from arzoo.metrics.features import feature_net, features
from arzoo.metrics.frechet import Statistics, frechet_distance
from arzoo.metrics.kernel import kernel_distance, squared_mmd
from arzoo.metrics.neighbors import nearest_distance
from arzoo.metrics.reconstruction import psnr, ssim


def pair(n=300, d=40):
    random = torch.Generator().manual_seed(0)
    mix = torch.randn(d, d, generator=random, dtype=torch.float64)
    return torch.randn(n, d, generator=random).double() @ mix, torch.randn(
        n, d, generator=random
    ).double() + 0.3


def test_frechet_agrees_with_scipy_and_torchmetrics():
    a, b = pair()
    ours = frechet_distance(Statistics.of(a), Statistics.of(b))
    first, second = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = sqrtm(first @ second).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    assert ours == pytest.approx(shift + np.trace(first) + np.trace(second) - 2 * np.trace(root), rel=1e-5)
    theirs = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_statistics_merge():
    a, b = pair()
    merged = Statistics.of(a[:100]).merged(Statistics.of(a[100:]))
    whole = Statistics.of(a)
    torch.testing.assert_close(merged.covariance, whole.covariance)
    assert frechet_distance(merged, whole) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ArzooError, match="at least two"):
        _ = Statistics.of(b[:1]).covariance


def test_kernel_distance_agrees_with_torchmetrics_and_is_unbiased():
    a, b = pair()
    theirs = poly_mmd(a, b, degree=3, gamma=None, coef=1.0)
    assert squared_mmd(a, b) == pytest.approx(float(theirs), rel=1e-5)
    assert poly_kernel(a, b).shape == (300, 300)
    same, error = kernel_distance(b[:150], b[150:], subsets=20, size=100)
    assert abs(same) < 5 * error + 1e-3


def test_reconstruction_scores():
    a = torch.full((2, 32, 32, 3), 100, dtype=torch.uint8)
    b = a + 10
    assert psnr(a, b).tolist() == pytest.approx([20 * np.log10(25.5)] * 2)
    assert torch.isinf(psnr(a, a)).all()
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_feature_net_is_deterministic_and_sees_blur():
    images = composite(arzoo.data.load("emoji64").images[::320])
    found = features(images, batch=5)
    assert found.shape == (12, feature_net().width)
    assert len(feature_net().sha256) == 64
    torch.testing.assert_close(found, features(images, batch=12), rtol=1e-4, atol=1e-4)
    scores = []
    for sigma in (0.7, 1.5, 3.0):
        blurred = gaussian_blur(images.permute(0, 3, 1, 2), 15, [sigma, sigma]).permute(0, 2, 3, 1)
        scores.append(float((features(blurred) - found).square().mean()))
    assert scores == sorted(scores)
    with pytest.raises(ArzooError, match="uint8"):
        features(images.float())


def test_nearest_distance_finds_copies():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert nearest_distance(x, torch.cat([-x, x])).abs().max() < 1e-6


def test_codebook_use():
    used, perplexity = codebook_use(torch.tensor([[0, 1], [2, 3]]), 16)
    assert used == 4
    assert perplexity == pytest.approx(4)
