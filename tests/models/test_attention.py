"""Attention by products of matrices, which bfloat16 uses, gives what torch's fused kernel gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from arzoo.models.common.attention import attend


def _masks():
    rng = torch.Generator().manual_seed(1)
    yield None
    yield torch.ones(1, 1, 6, 9, dtype=torch.bool).tril(3)  # a mask of all samples
    for shape in ((2, 1, 1, 9), (2, 3, 6, 9)):  # masks of samples, and of heads
        mask = torch.rand(shape, generator=rng) < 0.6
        mask[..., 0] = True
        yield mask


@pytest.mark.parametrize("mask", list(_masks()))
def test_attention_in_bfloat16_is_that_of_the_fused_kernel(mask):
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=rng).bfloat16() for n in (6, 9, 9))
    low = [x.clone().requires_grad_() for x in (q, k, v)]
    exact = [x.float().requires_grad_() for x in (q, k, v)]
    y, expected = attend(*low, mask), F.scaled_dot_product_attention(*exact, attn_mask=mask)
    assert "Scaled" not in type(y.grad_fn).__name__
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, atol=0.02, rtol=0.02)
    weights = torch.randn(y.shape, generator=rng)
    gradients = torch.autograd.grad((y.float() * weights).sum(), low)
    for gradient, right in zip(
        gradients, torch.autograd.grad((expected * weights).sum(), exact), strict=True
    ):
        torch.testing.assert_close(gradient.float(), right, atol=0.05, rtol=0.05)
