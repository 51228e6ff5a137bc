"""Operations are counted alike, whichever kernel computes attention."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from arzoo.train.flops import counter


@pytest.mark.parametrize("width", [16, 24])
def test_attention_is_counted_on_a_cpu(width):
    query, key = torch.randn(2, 3, 10, width), torch.randn(2, 3, 14, width)
    with counter() as fused:
        F.scaled_dot_product_attention(query, key, key)
    with sdpa_kernel(SDPBackend.MATH), counter() as plain:
        F.scaled_dot_product_attention(query, key, key)
    assert fused.get_total_flops() == plain.get_total_flops() == 2 * 2 * (2 * 3 * 10 * 14 * width)


def test_its_gradients_are_counted():
    """Five products of the backward pass, since the scores are computed again."""
    query, key, value = (torch.randn(1, 2, 8, 16, requires_grad=True) for _ in range(3))
    with counter() as fused:
        F.scaled_dot_product_attention(query, key, value).sum().backward()
    assert fused.get_total_flops() == (2 + 5) * 2 * (2 * 8 * 8 * 16)
