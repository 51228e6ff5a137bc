"""The resizes of published tools against their formulas, written here once more pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arzoo.models.vision.resize import resize_clean, resize_half_pixel, resize_tf1

SIZES = [((5, 7), (13, 9)), ((40, 30), (17, 23)), ((8, 8), (8, 8)), ((3, 1), (6, 5))]


def picture(height, width):
    random = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, (2, 3, height, width), generator=random).float()


def along(pixels, size, axis, weights):
    """Every line of pixels as sums of (source, share) that `weights` gives for each target."""
    lines = np.moveaxis(pixels, axis, -1)
    made = [sum(share * lines[..., source] for source, share in weights(i, lines.shape[-1], size)) for i in
            range(size)]  # fmt: skip
    return np.moveaxis(np.stack(made, -1), -1, axis)


def both(x, size, weights, first):
    """One axis after the other, in float64."""
    pixels = x.double().numpy()
    for axis in (first, 5 - first):
        pixels = along(pixels, size[axis - 2], axis, weights)
    return pixels


def linear(place, n):
    low = math.floor(place)
    return [(min(low, n - 1), 1 - (place - low)), (min(low + 1, n - 1), place - low)]


def of_tensorflow_1(i, n, size):
    """Source = target * (in / out)."""
    return linear(i * n / size, n)


def of_half_pixels(i, n, size):
    """Pixels are centered at halves; before the first centre is the first pixel."""
    return linear(max((i + 0.5) * n / size - 0.5, 0), n)


def of_pil_bicubic(i, n, size):
    """Keys' kernel with a = -1/2, as wide as a target pixel where the picture shrinks, cut off at its border."""

    def kernel(x):
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    wide = max(n / size, 1.0)
    centre = (i + 0.5) * n / size
    first, last = max(int(centre - 2 * wide + 0.5), 0), min(int(centre + 2 * wide + 0.5), n)
    shares = [kernel((source + 0.5 - centre) / wide) for source in range(first, last)]
    return [(source, share / sum(shares)) for source, share in zip(range(first, last), shares, strict=True)]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_tensorflow_1(before, after):
    x = picture(*before)
    np.testing.assert_allclose(resize_tf1(x, *after).numpy(), both(x, after, of_tensorflow_1, 3), atol=1e-3)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_half_pixels_without_antialias(before, after):
    x = picture(*before)
    found = resize_half_pixel(x, *after)
    np.testing.assert_allclose(found.numpy(), both(x, after, of_half_pixels, 3), atol=1e-3)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_clean(before, after):
    x = picture(*before)
    wanted = both(x, after, of_pil_bicubic, 3).clip(0, 255)
    found = resize_clean(x, *after)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)
    if before != after:
        assert not torch.equal(found, found.round()), "it must not be rounded"


def test_clean_is_clipped():
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 255
    steep = both(x, (20, 20), of_pil_bicubic, 3)
    assert steep.min() < -1
    assert steep.max() > 256
    found = resize_clean(x, 20, 20)
    assert (float(found.min()), float(found.max())) == (0, 255)


def test_tensorflow_keeps_corners_and_does_not_shift():
    x = torch.rand(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_tf1(x, 5, 7), x)
    assert torch.equal(resize_tf1(x, 10, 14)[:, :, ::2, ::2], x)


@pytest.mark.parametrize("before", [(64, 64), (40, 30), (512, 400)])
def test_the_resize_of_torch_fidelity(before):
    name = "torch_fidelity.interpolate_compat_tensorflow"
    published = pytest.importorskip(name).interpolate_bilinear_2d_like_tensorflow1x
    x = picture(*before)
    torch.testing.assert_close(
        resize_tf1(x, 299, 299), published(x, size=(299, 299), align_corners=False), rtol=0, atol=2e-3
    )
