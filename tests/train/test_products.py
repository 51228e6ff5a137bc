"""Products of oneDNN in training: the values and gradients of the plain layer, and nothing where they do not belong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from arzoo.models.llamagen.network import TransformerConfig
from arzoo.train import products
from arzoo.train.products import fast_products


@pytest.fixture
def taken(monkeypatch):
    """Products of any size by oneDNN; holds the shapes that were multiplied."""
    products._is_faster.cache_clear()
    monkeypatch.setattr(products, "_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(products, "LEAST", 1)
    if not products._is_faster():
        pytest.skip("this build of torch has no such operator")
    shapes, multiply = [], products._multiply

    def noted(x, weight, bias=None):
        shapes.append((*x.shape, len(weight)))
        return multiply(x, weight, bias)

    monkeypatch.setattr(products, "_multiply", noted)
    yield shapes
    products._is_faster.cache_clear()


def gradients(layer, x, fast):
    x = x.detach().requires_grad_()
    layer.zero_grad()
    with fast_products() if fast else torch.enable_grad():
        y = layer(x)
    y.square().sum().backward()
    return [y, x.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 96), (2, 5, 96), (2, 3, 4, 96)])
def test_gradients_are_those_of_the_layer(taken, bias, shape):
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160, bias=bias), torch.randn(shape)
    want = gradients(layer, x, False)
    assert not taken
    found = gradients(layer, x, True)
    assert len(taken) == 3
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_inputs_and_gradients_may_be_views(taken):
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160), torch.randn(96, 3, 8).permute(2, 1, 0)
    for a, b in zip(gradients(layer, x, True), gradients(layer, x, False), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)
    with fast_products():
        layer(x).sum().backward()  # a gradient that is one number, spread


def test_the_operator_never_sees_a_slice(taken):
    """A slice as its second matrix would take a thousand times as long."""
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160), torch.randn(5, 4, 96, requires_grad=True)
    seen = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if function is torch.ops.mkldnn._linear_pointwise.default:
                seen.extend(arguments[:2])
            return function(*arguments, **(named or {}))

    with Noted(), fast_products():
        torch.stack([layer(x[:, 1]), layer(x[:, 3])], 1).square().sum().backward()
    assert len(seen) == 12
    assert all(matrix.is_contiguous() or matrix.t().is_contiguous() for matrix in seen)


def test_a_network_trains_the_same(taken):
    torch.manual_seed(0)
    config = TransformerConfig(
        width=64, depth=2, heads=4, vocab=16, grid=(1, 4, 4), classes=5, dropout=0, token_dropout=0
    )
    block = config.build().train().blocks[0]
    rope, x = torch.polar(torch.ones(1, 9, 1, 8), torch.rand(1, 9, 1, 8)), torch.randn(2, 9, 64)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()[None, None]

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = block

        def forward(self, x):
            return self.block(x, rope, mask)

    for a, b in zip(gradients(Fixed(), x, True), gradients(Fixed(), x, False), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_second_derivatives(taken):
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 6).double(), torch.randn(5, 8)

    def norm(fast):
        inputs = x.clone().requires_grad_()
        layer.float().zero_grad()
        with fast_products() if fast else torch.enable_grad():
            y = layer(inputs).tanh()
        (slope,) = torch.autograd.grad(y.sum(), inputs, create_graph=True)
        slope.square().sum().backward()
        return layer.weight.grad.clone()

    torch.testing.assert_close(norm(True), norm(False))


def test_other_calls_stay_as_they_are(taken, monkeypatch):
    layer, x = nn.Linear(96, 160), torch.randn(7, 96)
    with fast_products():
        with torch.no_grad():
            layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        nn.Linear(96, 160).double()(x.double())
        F.linear(input=x, weight=layer.weight)
        monkeypatch.setattr(products, "LEAST", 1 << 20)
        layer(x)
    assert not taken


def test_processors_of_intel_keep_their_library(monkeypatch):
    products._is_faster.cache_clear()
    monkeypatch.setattr(products, "_vendor", lambda: "vendor_id : GenuineIntel")
    assert not products._is_faster()
    products._is_faster.cache_clear()


def test_operations_are_counted(taken):
    layer, x = nn.Linear(96, 160), torch.randn(7, 96, requires_grad=True)
    counts = []
    for fast in (False, True):
        with FlopCounterMode(display=False) as counter, fast_products() if fast else torch.enable_grad():
            layer(x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts == [3 * 2 * 7 * 96 * 160] * 2
