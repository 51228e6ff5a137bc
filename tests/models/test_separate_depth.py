"""The depth head as LongCat-Next publishes it, against a plain computation position by position and code by code."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from arzoo.core.contracts import Read
from arzoo.models.heads.depth import DepthConfig

CONFIG = DepthConfig(width=16, vocab=7, codebooks=3, layers=2, heads=2, separate=True)


def head_and_read():
    torch.manual_seed(0)
    head = CONFIG.build().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head, Read(torch.arange(5)[None], torch.randn(2, 5, 1, 16)), torch.randint(7, (2, 5, 3))


def plain_logits(head, h, codes):
    """Logits (l + 1, V) of one position from its features (D) and its first l codes."""
    table = [embedding.weight[code] for embedding, code in zip(head.embeddings, codes, strict=False)]
    x = torch.stack([h, *torch.stack(table).cumsum(0)]) if table else h[None]
    norm, project = head.inputs
    x = F.rms_norm(x, (16,), norm.weight, 1e-6) @ project.weight.T
    for block in head.blocks:
        y = F.rms_norm(x, (16,), block.norm1.weight, 1e-6)
        q = y @ block.query.weight.T + block.query.bias
        k = y @ block.key.weight.T
        v = y @ block.value.weight.T + block.value.bias
        mixed = torch.zeros_like(x)
        for i in range(len(x)):
            for part in (slice(0, 8), slice(8, 16)):
                weights = (k[: i + 1, part] @ q[i, part] / 8**0.5).softmax(0)
                mixed[i, part] = weights @ v[: i + 1, part]
        x = x + mixed @ block.proj.weight.T + block.proj.bias
        y = F.rms_norm(x, (16,), block.norm2.weight, 1e-6)
        ups = [F.gelu(y[i] @ block.mlp.up[i]) for i in range(len(x))]
        x = x + torch.stack([up @ block.mlp.down[i] for i, up in enumerate(ups)])
    x = F.rms_norm(x, (16,), head.norm.weight, 1e-5)
    return torch.stack([x[i] @ head.outputs[i].weight.T + head.outputs[i].bias for i in range(len(x))])


@torch.no_grad()
def test_it_computes_what_is_published():
    head, read, codes = head_and_read()
    for known in range(3):
        logits = head.predict(read, codes[..., :known] if known else None)
        for row in range(2):
            for place in range(5):
                expected = plain_logits(head, read.features[row, place, 0], codes[row, place, :known])
                torch.testing.assert_close(logits[row, place], expected, atol=2e-5, rtol=1e-5)


def test_each_depth_has_weights_of_its_own():
    head, read, codes = head_and_read()
    head.loss(read, codes).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())
    with torch.no_grad():
        plain = head.predict(read, codes[..., :-1])
        head.blocks[-1].mlp.up[1] += 1
        differs = (head.predict(read, codes[..., :-1]) != plain).flatten(3).any(3).any(0).any(0)
    assert differs.tolist() == [False, True, False]
    keys = head.state_dict().keys()
    assert "blocks.0.key.bias" not in keys
    assert {"blocks.0.query.bias", "blocks.0.value.bias", "blocks.0.proj.bias", "outputs.2.bias"} <= keys
