"""Packed sequences attend within their segments, as a block-diagonal mask says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from arzoo.models.common.packing import Segments


@pytest.mark.parametrize("lengths", [[7], [3, 3, 3], [1, 4, 4, 9], [5, 2, 5, 1, 2, 5], [1, 1]])
def test_segments_equal_a_block_mask(lengths):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, sum(lengths), 2, 8)
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    heads = (part.transpose(0, 1)[None] for part in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads, attn_mask=number[:, None] == number)
    mixed = Segments(lengths, q.device).attend(q, k, v)
    torch.testing.assert_close(mixed, expected[0].transpose(0, 1).flatten(1))


def test_gradients_stay_within_a_segment():
    q, k, v = torch.randn(3, 11, 2, 8, requires_grad=True)
    mixed = Segments([4, 5, 2], q.device).attend(q, k, v)
    for gradient in torch.autograd.grad(mixed[4:9].sum(), (k, v)):
        assert not gradient[:4].any()
        assert not gradient[9:].any()
        assert gradient[4:9].any()
