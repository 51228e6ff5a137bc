"""Layers of tokenizers that take a faster way: they give what the plain way gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arzoo.tokenizers.common.convolutional import norm
from arzoo.tokenizers.common.transformer import Block, transform
from arzoo.tokenizers.flextok import blocks as flextok


@pytest.mark.parametrize("block", [Block, flextok.Block])
@pytest.mark.parametrize("per_query", [False, True])
def test_a_stack_that_is_read_in_part_gives_the_same_rows(block, per_query):
    torch.manual_seed(0)
    blocks, x = nn.ModuleList(block(16, 2) for _ in range(2)), torch.randn(3, 7, 16)
    mask = torch.rand(3, 1, 7 if per_query else 1, 7) < 0.7
    mask[..., 0] = True
    whole = x
    for part in blocks:
        whole = part(whole, mask)
    for outputs in (slice(3), slice(-2, None), slice(1, 5)):
        torch.testing.assert_close(transform(blocks, x, outputs, mask), whole[:, outputs])


def test_patches_do_not_need_registers_of_the_last_block():
    torch.manual_seed(0)
    block, time = flextok.TimedBlock(16, 2), torch.randn(1, 16)
    streams = [torch.randn(3, 4, 16), torch.randn(3, 2, 16)]
    patches, registers = block(streams, time)
    (alone,) = block(streams, time, count=1)
    assert registers.shape == (3, 2, 16)
    torch.testing.assert_close(alone, patches)


@pytest.mark.parametrize(("channels", "side"), [(12, 4), (48, 8), (64, 32)])
def test_group_norm_in_bfloat16_is_that_of_float32(channels, side):
    torch.manual_seed(0)
    layer, x = norm(channels).requires_grad_(False), torch.randn(2, channels, side, side) * 3 + 1
    layer.weight.normal_()
    layer.bias.normal_()
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    y = layer.bfloat16()(x)
    right = F.group_norm(x.float(), layer.num_groups, layer.weight.float(), layer.bias.float(), layer.eps)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.float(), right, atol=0.05, rtol=0.02)
