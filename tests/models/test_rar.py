"""RAR: sizes, the converter, and a second implementation of what is described of the published code.

There are no recordings of the published code; where the description is silent (epsilon of the norms of queries and
keys, where dropout acts) nothing here proves parity.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Progress
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.build import networks
from arzoo.models.common.convert import convert_state, split
from arzoo.models.common.sampling import rar
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.rar.convert import rar_table
from arzoo.models.rar.network import RARConfig
from arzoo.samplers.plans.shifted import custom, raster

CONFIG = RARConfig(
    width=32, depth=2, heads=4, hidden_width=48, vocab=11, grid=(1, 3, 3), classes=5, unused_positions=4,
    unused_places=3,
)  # fmt: skip
HEAD = CategoricalConfig(width=32, vocab=11, plain=True)


def published(seed=0):
    """Random weights in the published layout."""
    parts = {"backbone": CONFIG.build(), "head": HEAD.build()}
    rng = torch.Generator().manual_seed(seed)
    weights = {
        f"{part}.{name}": torch.randn(w.shape, generator=rng) * 0.3
        for part, module in parts.items()
        for name, w in module.state_dict().items()
    }
    return split(weights, rar_table(CONFIG))


@pytest.mark.parametrize(("size", "millions"), [("b", 260.9), ("l", 461.7), ("xl", 955.4), ("xxl", 1498.5)])
def test_published_sizes(size, millions):
    with torch.device("meta"):
        config = registry.lookup("backbone", f"rar_{size}")()
        head = CategoricalConfig(width=config.width, vocab=config.vocab, plain=True)
        count = sum(p.numel() for part in (config.build(), head.build()) for p in part.parameters())
    assert round(count / 1e6, 1) == millions
    assert rar(config.width).guidance(Progress(255, 256, 255, 256, 256)) > 6


def test_the_converter_is_strict_and_its_own_inverse():
    state = published()
    found = convert_state(state, heads=4, grid=(3, 3))
    assert found.source == "rar"
    assert found.parts["backbone"].config == CONFIG
    assert found.parts["head"].config == HEAD
    assert found.plan == {"name": "raster", "options": {}}
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = split(weights, rar_table(CONFIG))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({k: w for k, w in state.items() if k != name}, "rar", heads=4, grid=(3, 3))
    with pytest.raises(ArzooError, match="unknown: attn_mask"):
        convert_state({**state, "attn_mask": torch.zeros(1)}, heads=4, grid=(3, 3))
    with pytest.raises(ArzooError, match="heads are 8 wide, so a model of width 32 has 4, not 16"):
        convert_state(state, grid=(3, 3))
    with pytest.raises(ArzooError, match="each of the 18 inputs"):
        convert_state(state, heads=4, grid=(4, 4))


def described(state, codes, labels, order):
    """Logits (B, N, V) along an order (B, N), as the published code is described, without code of the package."""
    batch, size = codes.shape
    d, heads = 32, 4
    condition = state["embeddings.weight"][labels + 11 + 1]
    x = state["embeddings.weight"][codes.gather(1, order)][:, :-1]
    x = torch.cat([state["cls_token"].expand(batch, -1, -1), condition[:, None], x], 1)
    x = x + torch.cat(
        [state["pos_embed"][:, :2].expand(batch, -1, -1), state["pos_embed"][0, 2 + order[:, :-1]]], 1
    )
    x[:, 1:] += state["target_aware_pos_embed"][0, 2 + order]
    c = condition[:, None] + state["timesteps_embeddings"][:, : size + 1]

    def layer(name, y):
        return F.linear(y, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, y):
        return F.layer_norm(y, y.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    causal = torch.ones(size + 1, size + 1, dtype=torch.bool).tril()
    for i in range(2):
        b = f"blocks.{i}"
        parts = layer(f"{b}.adaLN_modulation.1", c * torch.sigmoid(c)).split(d, -1)
        y = norm(f"{b}.norm1", x) * (1 + parts[1]) + parts[0]
        q, k, v = layer(f"{b}.attn.qkv", y).view(batch, size + 1, 3, heads, d // heads).unbind(2)
        q, k = norm(f"{b}.attn.q_norm", q), norm(f"{b}.attn.k_norm", k)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(d // heads)
        weights = scores.masked_fill(~causal, -math.inf).softmax(-1)
        y = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
        x = x + parts[2] * layer(f"{b}.attn.proj", y)
        y = norm(f"{b}.norm2", x) * (1 + parts[4]) + parts[3]
        x = x + parts[5] * layer(f"{b}.mlp.fc2", F.gelu(layer(f"{b}.mlp.fc1", y)))
    scale, shift = layer("adaln_before_head.adaLN_modulation.1", c * torch.sigmoid(c)).split(d, -1)
    x = F.layer_norm(x, (d,), eps=1e-6) * (1 + scale) + shift
    return layer("lm_head", x)[:, 1:]


@pytest.mark.parametrize("name", ["raster", "random"])
def test_logits_are_those_of_the_description(name):
    state = published()
    found = convert_state(state, heads=4, grid=(3, 3))
    backbone, head = found.parts["backbone"], found.parts["head"]
    rng = torch.Generator().manual_seed(1)
    codes, labels = torch.randint(11, (3, 9), generator=rng), torch.tensor([0, 4, 5])
    order = torch.arange(9).expand(3, -1)
    if name == "random":
        order = torch.stack([torch.randperm(9, generator=rng) for _ in range(3)])
    plan = raster(Grid(1, 3, 3)) if name == "raster" else custom(Grid(1, 3, 3), order)
    cond = Cond(3, label=labels.clamp(max=4), drop=labels == 5)  # the last one is the null class
    logits = head.predict(backbone.features(Tokens.of(codes), cond, plan))
    expected = described(state, codes, labels, order)
    positions = expected.new_zeros(expected.shape).scatter(1, order[..., None].expand_as(expected), expected)
    assert torch.allclose(logits, positions, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_network_for_a_tokenizer_has_the_head_it_is_published_with():
    spec = TokenSpec(Grid(1, 4, 4), vocab=11)
    small = {"width": 16, "depth": 1, "heads": 2}
    backbone, (head,), _ = networks("rar_tiny", spec, raster(spec.layout), classes=3, changes=small)
    assert backbone.config.layout == spec.layout
    assert head.config.plain
    with pytest.raises(ArzooError, match="width 30 is not a multiple of 4 heads"):
        RARConfig(width=30, heads=4)
