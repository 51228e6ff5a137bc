"""Attention of training on a CPU: the values and gradients of torch's, and only where it is faster."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arzoo.train import attention
from arzoo.train.attention import PlainAttention, plain_attention


def inputs(dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 5, 8, generator=rng).to(dtype).requires_grad_() for _ in range(3)]


def masks():
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    some = mask.clone()
    some[2] = False
    return {"none": None, "causal": mask, "one row sees nothing": some, "of heads": mask.expand(2, 3, 5, 5)}


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("scale", [None, 0.1])
def test_values_and_gradients_are_those_of_torch(name, scale):
    q, k, v = inputs()
    results = [
        f(q, k, v, attn_mask=masks()[name], scale=scale)
        for f in (plain_attention, F.scaled_dot_product_attention)
    ]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(y.square().sum(), (q, k, v)) for y in results]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_only_bfloat16_with_gradients_is_replaced(monkeypatch):
    calls = []
    monkeypatch.setattr(
        attention, "plain_attention", lambda *a, **k: calls.append(1) or plain_attention(*a, **k)
    )

    def count(x, **options):
        calls.clear()
        with PlainAttention():
            F.scaled_dot_product_attention(*x, **options)
        return len(calls)

    x = inputs(torch.bfloat16)
    assert count(x) == count(x, attn_mask=masks()["causal"]) == 1
    assert (
        count(x, is_causal=True)
        == count(x, dropout_p=0.5)
        == count(x, attn_mask=torch.zeros(5, 5).bfloat16())
        == 0
    )
    assert count(inputs()) == 0
    with torch.no_grad():
        assert count(x) == 0


def test_a_block_under_autocast_uses_it(monkeypatch):
    from arzoo.tokenizers.common.transformer import Block

    calls = []
    monkeypatch.setattr(
        attention, "plain_attention", lambda *a, **k: calls.append(1) or plain_attention(*a, **k)
    )
    torch.manual_seed(0)
    block, x = nn.Sequential(Block(16, 2)), torch.randn(2, 5, 16)
    plain = block(x)
    with PlainAttention(), torch.autocast("cpu", torch.bfloat16):
        fast = block(x)
    assert calls
    torch.testing.assert_close(fast, plain, atol=0.05, rtol=0.05)
