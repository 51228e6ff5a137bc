"""Packed networks compute what the plain ones do, share what they can, and refuse what they cannot do."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from contracts.cases import cases
from contracts.test_generation import close
from torch import nn

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import TokenSpec
from arzoo.generation import packed
from arzoo.generation.packed import pack
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import next_neighbor

KERNELS = ("mkl", "onednn", "onednn_bf16", "fbgemm", "fbgemm_direct")


@pytest.fixture(params=["all kernels", "no kernels", 1, 2])
def machine(request, monkeypatch):
    """Machines with and without the packed kernels, and numbers of threads, which choose between them."""
    threads = torch.get_num_threads()
    if request.param == "no kernels":
        monkeypatch.setattr(packed, "_has", lambda kernel: False)
    elif isinstance(request.param, int):
        torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("few", "half"), [(1, 16), (2, math.inf)])
def test_products_are_those_of_the_layer(machine, storage, bias, few, half, monkeypatch):
    monkeypatch.setattr(packed, "FEW", few)
    monkeypatch.setattr(packed, "HALF_ROWS", half)
    torch.manual_seed(0)
    layer = nn.Linear(96, 160, bias=bias)
    layer.weight.data = layer.weight.data.half().float()  # float16 checkpoints lose nothing
    with torch.no_grad():
        fast = pack(layer, storage)
        for shape in [(1, 96), (2, 96), (3, 96), (17, 96), (40, 96), (2, 1, 96), (2, 5, 96), (0, 96)]:
            x = torch.randn(shape)
            torch.testing.assert_close(fast(x), layer(x), atol=2e-6, rtol=2e-6)
        wide = torch.randn(2, 4, 2, 96)[:, :, 1]
        torch.testing.assert_close(fast(wide), layer(wide), atol=2e-6, rtol=2e-6)


def test_many_rows_see_the_same_float16_weights(monkeypatch):
    """Weights are rounded whatever the number of rows, so that steps of a few and of many tokens agree."""
    monkeypatch.setattr(packed, "HALF_ROWS", 16)
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160), torch.randn(40, 96)
    with torch.no_grad():
        fast = pack(layer, "fp16")
        torch.testing.assert_close(fast(x)[:4], fast(x[:4]), atol=2e-6, rtol=2e-6)
        assert not torch.allclose(fast(x), layer(x), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 1.0, None])
def test_norms_are_those_of_the_layer(gain, eps):
    torch.manual_seed(0)
    norm = nn.RMSNorm(96, eps, elementwise_affine=gain)
    if gain:
        nn.init.normal_(norm.weight)
    fast = pack(norm)
    with torch.no_grad():
        for x in (
            torch.randn(2, 1, 96),
            torch.randn(5, 96) * 1e-3,
            torch.zeros(1, 96),
            torch.randn(0, 3, 96),
        ):
            kept = x.clone()
            torch.testing.assert_close(fast(x), norm(x), atol=2e-6, rtol=2e-6)
            assert torch.equal(x, kept)
    with pytest.raises(ArzooError, match="cannot be saved"):
        fast.state_dict()


def model(axes: int = 2):
    torch.manual_seed(1)
    config = TransformerConfig(
        width=64, depth=2, heads=4, vocab=256, grid=(1, 4, 4), classes=5, axes=axes, hidden_multiple=64
    )
    head = CategoricalConfig(width=64, vocab=256, axes=axes).build()
    nn.init.normal_(head.output.weight, std=0.2)
    return config.build().eval(), head.eval()


def sample(backbone, head, control):
    spec = TokenSpec(backbone.layout, vocab=256)
    parts = SimpleNamespace(backbone=backbone, heads=[head])
    cond = Cond(3, label=torch.tensor([0, 3, 4]))
    run = start(parts, next_neighbor(spec.layout), cond, control, spec.empty(3), Draws([1, 2, 3]))
    for _ in generate(parts, run):
        pass
    return run.tokens.values


def test_sampling_gives_the_same_tokens(machine):
    backbone, head = model()
    control = Control(guidance=2.0, temperature=0.9, top_k=40)
    tokens = sample(backbone, head, control)
    assert torch.equal(sample(pack(backbone), pack(head), control), tokens)
    # Rounded to bfloat16, one other token changes those behind it; by chance one in 256 agrees.
    rounded = packed.bfloat_units()
    for storage, share in (("fp16", 0.9), ("bf16", 0.6 if rounded else 0.9)):
        small = sample(pack(backbone, storage), pack(head, storage), control)
        assert (small == tokens).float().mean() > share, storage


@pytest.mark.parametrize(
    "name", ["xar cells", "flowar", "flowar cross", "mar", "flow mlp raster", "raster with a diffusion head"]
)
def test_continuous_families_sample_the_same_vectors(name):
    case = cases()[name]
    want = case.finish(case.begin()).tokens.values
    case.model = SimpleNamespace(
        backbone=pack(case.model.backbone), heads=[pack(head) for head in case.model.heads]
    )
    found = case.finish(case.begin()).tokens.values
    assert close(found, want, 1e-4)
    assert not torch.equal(found, want), "other kernels round differently: was anything packed?"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("units", ["tiles", "instructions", "none"])
@pytest.mark.parametrize("rows", [3, 6])
def test_bfloat16_weights(machine, units, bias, rows, monkeypatch):
    """With units for it weights and inputs are rounded to bfloat16; without, or few rows, weights are in float16."""
    monkeypatch.setattr(packed, "tile_units", lambda: units == "tiles")
    monkeypatch.setattr(packed, "bfloat_instructions", lambda: units == "instructions")
    rounded = units == "tiles" or (units == "instructions" and rows > packed.BFLOAT_ROWS)
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160, bias=bias), torch.randn(1, rows, 96)
    with torch.no_grad():
        found, want = pack(layer, "bf16")(x), layer(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found, want, atol=2e-2 if rounded else 1e-3, rtol=1e-2 if rounded else 1e-3
        )
        assert torch.allclose(found, want, atol=1e-3) != rounded


def test_the_original_stays_as_it_is():
    backbone, head = model()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    fast = pack(backbone)
    assert type(backbone.blocks[0].attention.qkv) is nn.Linear
    assert type(fast.blocks[0].attention.qkv) is packed.PackedLinear
    assert fast.token.weight is backbone.token.weight
    assert fast.config == backbone.config
    assert not fast.training
    sample(fast, pack(head), Control(guidance=2.0))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_layer_used_twice_is_packed_once():
    layer = nn.Linear(8, 8)
    fast = pack(nn.Sequential(layer, layer))
    assert fast[0] is fast[1]


def test_what_a_packed_network_refuses():
    fast = pack(nn.Sequential(nn.Linear(8, 8)))
    with pytest.raises(ArzooError, match="cannot be saved"):
        fast.state_dict()
    with pytest.raises(ArzooError, match="for sampling"):
        fast(torch.zeros(1, 8, requires_grad=True))
    large = nn.Linear(8, 8)
    nn.init.constant_(large.weight, 1e5)
    with pytest.raises(ArzooError, match="100000 does not fit"):
        pack(large, "fp16")


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_tried_before_they_are_trusted(kernel, monkeypatch):
    packed._has.cache_clear()
    monkeypatch.setattr(packed.F, "linear", lambda x, weight: x.new_zeros(len(x), len(weight)))
    assert not packed._has(kernel)
    packed._has.cache_clear()


def test_mixing_features_equals_mixing_logits():
    for axes in (1, 2):
        _, head = model(axes)
        available = torch.tensor([[[True, True], [True, False], [False, True]]])[..., :axes]
        available[..., 0] |= axes == 1
        read = Read(torch.arange(3)[None], torch.randn(4, 3, axes, 64), available)
        with torch.no_grad():
            conditional, null = head.predict(read).chunk(2)
            want = head.guide(conditional, null, 3.0)
            torch.testing.assert_close(head.predict_guided(read, 3.0), want, atol=1e-5, rtol=1e-5)
