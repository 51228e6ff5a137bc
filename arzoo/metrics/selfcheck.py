"""Self-check: metrics on inputs whose result can be derived by hand.

The derivations stand beside the expected values. None comes from an earlier run of the same code; the feature network
is checked against the hash that its publisher put into the file's name, and against itself in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.metrics.scores.codebook import codebook_use
from arzoo.metrics.scores.frechet import Statistics, frechet_distance
from arzoo.metrics.scores.inception_score import inception_score
from arzoo.metrics.scores.kernel import squared_mmd
from arzoo.metrics.scores.neighbors import balls, nearest_distance, radii
from arzoo.metrics.scores.reconstruction import psnr, ssim
from arzoo.models.vision.features import feature_net
from arzoo.models.vision.resize import resize_tf1

TOLERANCE = 1e-6
PUBLISHED_EFFNET = "57934424"

Check = tuple[str, float, float]
"""Name, value and expected value."""


def self_check() -> dict[str, dict[str, float]]:
    """Run all checks.

    Returns:
        Value ("found") and expected value by check.

    Raises:
        ArzooError: A check failed.
    """
    done = {}
    for checks in (_frechet, _kernel, _classes, _neighbors, _pairs, _network):
        for name, value, expected in checks():
            if not math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                raise ArzooError(
                    f"self-check failed: {name} gives {value:.9g}, it must be {expected:.9g}. Do not trust figures of "
                    "this installation; compare the versions in `arzoo doctor` with another machine's"
                )
            done[name] = {"found": value, "expected": expected}
    return done


def _frechet() -> Iterator[Check]:
    """Points at +-a on every axis have a diagonal covariance, 2 a^2 / (2 D - 1), so roots can be taken by hand."""

    def cross(sides: Tensor, shift: float = 0.0) -> Statistics:
        arms = torch.diag(sides)
        return Statistics.of(torch.cat([arms, -arms]) + shift)

    first, second = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    # Deviations differ by 2, 0 and 2 times sqrt(2 / 5), means by 1 on three axes: (2 / 5) * (4 + 0 + 4) + 3.
    yield "Frechet distance of two crosses", frechet_distance(cross(first), cross(second, 1.0)), 6.2
    yield "Frechet distance of a cross to itself", frechet_distance(cross(first), cross(first)), 0.0


def _kernel() -> Iterator[Check]:
    """With x all zero and y.y = D, the kernel is 1 within x, 8 within y and 1 between them."""
    zeros, ones = torch.zeros(6, 4).double(), torch.ones(6, 4).double()
    yield "squared MMD of zeros and ones", squared_mmd(zeros, ones), 7.0
    yield "squared MMD of equal points", squared_mmd(ones, ones), 0.0


def _classes() -> Iterator[Check]:
    """Confident predictions, equally many of K classes, give K; uniform predictions give 1."""
    sure = torch.eye(5).repeat(8, 1) * 1000
    yield "Inception score of five sure classes", inception_score(sure, splits=1), 5.0
    yield "Inception score without a hint", inception_score(torch.zeros(40, 5)), 1.0
    yield "perplexity of four equal codes", codebook_use(torch.arange(4), 9)[1], 4.0


def _neighbors() -> Iterator[Check]:
    """Reference points 0, 1, 2, 3 on a line: with one neighbor every ball has radius 1."""
    line, points = torch.arange(4.0)[:, None], torch.tensor([[-1.0], [0.5], [9.0]])
    reach = radii(line, 1)
    yield "radius to the first neighbour", float(reach.sum()), 4.0
    # -1 touches the ball of 0 only; 0.5 lies in the balls of 0 and 1; 9 lies in none.
    yield (
        "precision with closed balls",
        float((balls(points, line, reach, True).inside > 0).double().mean()),
        2 / 3,
    )
    yield (
        "precision with open balls",
        float((balls(points, line, reach, False).inside > 0).double().mean()),
        1 / 3,
    )
    yield "density with open balls", float(balls(points, line, reach, False).inside.double().mean()), 2 / 3
    yield "coverage with open balls", float(balls(points, line, reach, False).hit.double().mean()), 2 / 4
    angle = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    yield "cosine distance at 45 degrees", float(nearest_distance(*angle)), 1 - math.sqrt(0.5)


def _pairs() -> Iterator[Check]:
    """Pictures of one color each: the error is their difference, and SSIM has no variance."""
    a = torch.full((1, 16, 16, 3), 100, dtype=torch.uint8)
    yield "PSNR of a difference of 10", float(psnr(a, a + 10)), 20 * math.log10(25.5)
    steady = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + steady) / (100**2 + 110**2 + steady)
    yield "SSIM of a difference of 10", float(ssim(a, a + 10)), expected
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    # TensorFlow 1 maps target column i of 20 to source column 0.4 i; beyond the last column it stays.
    expected = sum(min(0.4 * i, 7) for i in range(20)) / 20
    yield "TensorFlow 1 resize of a ramp", float(resize_tf1(ramp, 20, 20).mean()), expected


def _network() -> Iterator[Check]:
    """The default network has the published weights, and features of a picture do not depend on its batch."""
    net = feature_net()
    yield "published weights of the feature network", float(net.sha256.startswith(PUBLISHED_EFFNET)), 1.0
    images = torch.arange(3 * 32 * 32 * 3).view(3, 32, 32, 3).mul(7).remainder(256).to(torch.uint8)
    together, alone = net(images).pooled, torch.cat([net(images[i : i + 1]).pooled for i in range(3)])
    apart = float((together - alone).abs().max() / together.abs().max())
    yield "feature network alone and in a batch", float(apart < 1e-4), 1.0
