"""MaskGIT as TiTok has it: the network is BERT, the converter, and published sampling."""

import pytest
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Progress
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation import fit
from arzoo.models.common.convert import convert_state, split
from arzoo.models.common.sampling import maskgit
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.maskgit.convert import maskgit_table
from arzoo.models.maskgit.network import MaskGITConfig
from arzoo.samplers.plans.inplace import confident
from arzoo.samplers.schedules import falling, rising

CONFIG = MaskGITConfig(width=32, depth=2, heads=4, hidden_width=48, vocab=11, grid=(1, 1, 6), classes=5)
HEAD = CategoricalConfig(width=32, vocab=11, plain=True)


def published(prefix="model.", head="model.lm_head"):
    """Random weights in the published layout."""
    parts = {"backbone": CONFIG.build(), "head": HEAD.build()}
    rng = torch.Generator().manual_seed(0)
    weights = {
        f"{part}.{name}": torch.randn(w.shape, generator=rng) * 0.3
        for part, module in parts.items()
        for name, w in module.state_dict().items()
    }
    return split(weights, maskgit_table(CONFIG, prefix, head))


@pytest.mark.parametrize(
    ("prefix", "head"), [("model.", "model.lm_head"), ("", "lm_head"), ("bert.", "lm_head")]
)
def test_the_converter_is_strict_and_its_own_inverse(prefix, head):
    state = published(prefix, head)
    found = convert_state({**state, f"{prefix}embeddings.position_ids": torch.arange(7)}, heads=4)
    assert found.source == "maskgit"
    assert found.parts["backbone"].config == CONFIG
    assert found.parts["head"].config == HEAD
    assert found.plan == {"name": "confident", "options": {"steps": 6}}
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = split(weights, maskgit_table(CONFIG, prefix, head))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({k: w for k, w in state.items() if k != name}, "maskgit", heads=4)
    with pytest.raises(ArzooError, match=r"unknown: pooler\.dense"):
        convert_state({**state, "pooler.dense.weight": torch.zeros(1)}, heads=4)
    name = f"{prefix}embeddings.word_embeddings.weight"
    with pytest.raises(ArzooError, match="-1 rows are left for classes"):
        convert_state({**state, name: state[name][:12]}, heads=4)


def test_the_network_is_bert():
    transformers = pytest.importorskip("transformers")
    state = published("", "lm_head")
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=18, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=7,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    missing, unexpected = bert.load_state_dict(state, strict=False)
    assert set(missing) <= {"embeddings.position_ids"}
    assert set(unexpected) == {"lm_head.weight", "lm_head.bias"}
    found = convert_state(state, heads=4)
    backbone, head = found.parts["backbone"], found.parts["head"]
    codes = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(1))
    known = torch.rand(3, 6, generator=torch.Generator().manual_seed(2)) < 0.5
    cond = Cond(3, label=torch.tensor([0, 4, 1]), drop=torch.tensor([False, False, True]))
    inputs = torch.cat([torch.tensor([[12], [16], [17]]), torch.where(known, codes, 11)], 1)
    with torch.no_grad():
        hidden = bert(inputs).last_hidden_state[:, 1:]
        logits = head.predict(backbone.features(Tokens.of(codes, known), cond, confident(Ordered(6), 3)))
    expected = hidden @ state["lm_head.weight"].T + state["lm_head.bias"]
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "tokens", "first", "added"), [("l32", 32, 9.5, 4.5), ("b64", 64, 11.0, 3.0)]
)
def test_published_generators(name, tokens, first, added):
    """24 blocks of 12 d^2 + 13 d numbers, the tables, the first norm and the head, for width 768."""
    with torch.device("meta"):
        config = registry.lookup("backbone", f"maskgit_{name}")()
        head = CategoricalConfig(width=768, vocab=4096, plain=True).build()
        backbone = config.build()
    d = 768
    tables = (4096 + 1 + 1000 + 1) + (tokens + 1) + 2
    expected = 24 * (12 * d * d + 13 * d) + tables * d + 2 * d + 4096 * (d + 1)
    assert sum(p.numel() for part in (backbone, head) for p in part.parameters()) == expected
    control = maskgit(tokens)
    assert (control.guidance, control.temperature) == (rising(1 + added), falling(first, soften=True))
    assert control.at(Progress(0, 8, 0, 3, tokens)).guidance == 1, "no guidance in the first step"
    spec = TokenSpec(Ordered(tokens), vocab=4096)
    assert fit.check(spec, backbone, confident(spec.layout), [head]) == []
