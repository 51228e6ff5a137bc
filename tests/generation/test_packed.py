"""Packed networks compute what the plain ones do, share what they can, and refuse what they cannot do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from contracts.cases import cases
from contracts.test_generation import close
from ordered import FLEXTOK, build
from torch import nn

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation import kernels, packed
from arzoo.generation.packed import pack
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.shifted import next_neighbor

KERNELS = ("onednn", "onednn_bf16", "fbgemm", "int8")


@pytest.fixture(params=["all kernels", "no kernels", 1, 2])
def machine(request, monkeypatch):
    """Machines with and without the packed kernels, and numbers of threads, which choose between them."""
    threads = torch.get_num_threads()
    if request.param == "no kernels":
        monkeypatch.setattr(kernels, "_has", lambda kernel: False)
    elif isinstance(request.param, int):
        torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_the_layer(machine, storage, bias):
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
    rounded = kernels.bfloat_units()
    for storage, share in (("fp16", 0.9), ("bf16", 0.6 if rounded else 0.9), ("int8", 0.3)):
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
@pytest.mark.parametrize("few", [True, False])
def test_bfloat16_weights(machine, units, bias, few, monkeypatch):
    """With units for it weights and inputs are rounded to bfloat16; without, or few rows, weights are in float16."""
    monkeypatch.setattr(kernels, "tile_units", lambda: units == "tiles")
    monkeypatch.setattr(kernels, "bfloat_instructions", lambda: units == "instructions")
    rounded = units == "tiles" or (units == "instructions" and not few)
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160, bias=bias), torch.randn(1, 6, 96)
    with torch.no_grad():
        found, want = pack(layer, "bf16", few)(x), layer(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found, want, atol=2e-2 if rounded else 1e-3, rtol=1e-2 if rounded else 1e-3
        )
        assert torch.allclose(found, want, atol=1e-3) != rounded


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("vnni", [False, True])
def test_bytes_are_near_the_layer(machine, bias, vnni, monkeypatch):
    """Weights and inputs are rounded to 8 bits; without the instructions for it, inputs have one bit less."""
    if vnni and not kernels.byte_instructions():
        pytest.skip("this processor has no VNNI")
    monkeypatch.setattr(kernels, "byte_instructions", lambda: vnni)
    torch.manual_seed(0)
    layer = nn.Linear(96, 160, bias=bias)
    with torch.no_grad():
        fast = pack(layer, "int8")
        for shape in [(1, 96), (2, 5, 96), (300, 96), (0, 96)]:
            x = torch.randn(shape)
            found, want = fast(x), layer(x)
            assert found.shape == want.shape
            assert found.dtype == torch.float32
            assert (found - want).norm() <= 0.02 * want.norm()


def test_bytes_survive_saturation(monkeypatch):
    """The largest weights and inputs of one sign, which overflow 16 bits on processors without VNNI."""
    layer = nn.Linear(256, 16, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    for vnni in {False, kernels.byte_instructions()}:
        monkeypatch.setattr(kernels, "byte_instructions", lambda vnni=vnni: vnni)
        with torch.no_grad():
            for x in (torch.ones(3, 256), -torch.ones(3, 256)):
                torch.testing.assert_close(pack(layer, "int8")(x), layer(x), atol=0, rtol=1e-2)


def test_bytes_do_not_depend_on_the_neighbours(machine):
    """A row has the same bits alone, among others, beside outliers and beside nothing but zeros."""
    torch.manual_seed(0)
    layer = nn.Linear(100, 161)
    rows = torch.randn(37, 100) * torch.logspace(-4, 4, 37)[:, None]
    rows[5] = 0
    with torch.no_grad():
        fast = pack(layer, "int8")
        together = fast(rows)
        assert together.isfinite().all()
        if kernels._has("int8"):
            for i in range(37):
                assert torch.equal(fast(rows[i : i + 1])[0], together[i])
        torch.testing.assert_close(together[5], layer.bias)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_weights_that_came_from_bytes_keep_them(kind):
    torch.manual_seed(0)
    numbers = torch.randint(-127, 128, (64, 48))
    numbers[:, 0] = torch.where(torch.rand(64) < 0.5, 127, -127)
    numbers[7] = 0
    scale = (torch.rand(64) * 0.01).to(kind).float()
    found, found_scale = kernels.to_bytes(numbers * scale[:, None])
    assert torch.equal(found.long(), numbers)
    scale[7] = found_scale[7]
    torch.testing.assert_close(found_scale, scale, atol=0, rtol=1e-6 if kind == torch.float32 else 0)


def test_no_kernel_is_deprecated(recwarn, capfd):
    layer = nn.Linear(96, 160)
    with torch.no_grad():
        for storage in ("fp32", "fp16", "bf16", "int8"):
            for rows in (1, 8, 40):
                pack(layer, storage)(torch.randn(rows, 96))
    assert not recwarn.list
    assert "deprecated" not in capfd.readouterr().err


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
    kernels._has.cache_clear()
    monkeypatch.setattr(kernels.F, "linear", lambda x, weight: x.new_zeros(len(x), len(weight)))
    assert not kernels._has(kernel)
    kernels._has.cache_clear()


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


def test_a_tokenizer_decodes_with_packed_weights(machine, monkeypatch):
    """With `low`, numbers between products are in bfloat16 where products are; pictures stay float32."""
    tokenizer = build(FLEXTOK)
    tokens = Tokens.of(
        torch.randint(0, tokenizer.spec.vocab, (2, 8), generator=torch.Generator().manual_seed(0))
    )
    with torch.inference_mode():
        right = tokenizer.decode(tokens)
        for storage, error in {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}.items():
            y = pack(tokenizer, storage, low=True).decode(tokens)
            assert y.dtype == torch.float32
            assert (y - right).norm() < error * right.norm(), storage
        monkeypatch.setattr(packed, "bfloat_units", lambda: True)
        assert pack(tokenizer, "bf16", low=True).decoder.input.weight.dtype == torch.bfloat16
        assert pack(tokenizer, "bf16").decoder.input.weight.dtype == torch.float32
