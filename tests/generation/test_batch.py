"""On a CPU a picture does not depend, bit for bit, on how many are drawn with it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from contracts.cases import CLASSES, cases
from torch import nn

import arzoo
from arzoo.base.runtime import sample_seed
from arzoo.generation import packed
from arzoo.generation.kernels import ALIKE
from arzoo.generation.packed import drawing, pack, steady
from arzoo.models.common.activations import gelu, gelu_tanh, silu
from arzoo.models.common.rope import rope_table, rotate, turns

FAMILIES = (
    "transformer raster", "transformer next-neighbor", "transformer codebooks", "transformer vectors", "xar cells",
    "xar tokens", "flowar", "flowar cross", "flowar with a head a token", "mar", "mar codes",
    "mar with a joint flow head", "nbp hybrid",
)  # fmt: skip
CASES = {name: case for name, case in cases().items() if name in FAMILIES}
STORED = ("fp32", "fp16", "bf16", "int8")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def canvas(case, parts, rows):
    """Tokens of the first samples."""
    case = replace(case, model=parts)
    labels = torch.arange(rows) % CLASSES
    run = case.begin(case.tokens(batch=rows), list(range(rows)), plan=case.plan(rows), labels=labels)
    return case.finish(run).tokens.values


@pytest.mark.parametrize("change", [steady, pack])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_draws_the_same_tokens_in_any_batch(name, change):
    case = CASES[name]
    parts = SimpleNamespace(backbone=change(case.model.backbone), heads=list(map(change, case.model.heads)))
    together = canvas(case, parts, 9)
    for rows in (1, 2):
        assert torch.equal(canvas(case, parts, rows), together[:rows]), rows


@pytest.mark.parametrize("storage", [None, *STORED])
@pytest.mark.parametrize(("inputs", "outputs"), [(100, 161), (2048, 96)])
def test_products_round_every_row_alike(threads, storage, inputs, outputs):
    torch.manual_seed(0)
    plain, x = nn.Linear(inputs, outputs), torch.randn(96, inputs)
    with torch.no_grad():
        layer = steady(plain) if storage is None else pack(plain, storage)
        together = layer(x)
        for rows in (*range(1, 18), 64):
            assert torch.equal(layer(x[:rows]), together[:rows]), rows
            assert torch.equal(layer(x[rows : rows + 1])[0], together[rows])
            assert torch.equal(layer(x[:rows, None]).squeeze(1), together[:rows])


def test_large_networks_are_not_copied_for_every_batch(monkeypatch):
    layer = nn.Linear(8, 8)
    assert type(drawing(layer)) is packed.PackedLinear
    assert type(drawing(nn.Linear(8, 8).half())) is packed.SteadyLinear
    monkeypatch.setattr(packed, "LARGEST", 100)
    assert type(drawing(layer)) is packed.SteadyLinear


def test_steady_layers_are_those_of_the_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.ModuleList([nn.Linear(8, 8)]))
    network[1].append(network[0])
    copy, x = steady(network), torch.randn(2, 3, 8)
    assert copy[0] is copy[1][1]
    assert type(network[0]) is nn.Linear
    assert copy[0].weight is network[0].weight
    torch.testing.assert_close(copy[0](x), network[0](x))
    assert copy[0](x[:0]).shape == (0, 3, 8)
    copy[0](x).sum().backward()
    assert network[0].weight.grad is not None
    assert {name for name, _ in copy.named_parameters()} == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("function", [silu, gelu, gelu_tanh])
@pytest.mark.parametrize("width", [16, 96, 100, 688])
def test_activations_round_a_row_alike(threads, function, width):
    torch.manual_seed(0)
    x = torch.randn(700, 2 * width) * 4
    for part in (x, x[:, :width]):
        together = function(part)
        for row in (*range(9), 150, 350, 466, 699):
            assert torch.equal(function(part[row : row + 1])[0], together[row])


def test_activations_are_those_of_torch():
    x = torch.cat([torch.linspace(-200, 200, 10_001), torch.tensor([0.0, -0.0, 1e-30, 1e30, -1e30])])
    torch.testing.assert_close(silu(x), F.silu(x), atol=1e-7, rtol=2e-6)
    torch.testing.assert_close(gelu(x), F.gelu(x), atol=1e-7, rtol=2e-6)
    torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), atol=1e-6, rtol=2e-6)


@pytest.mark.parametrize("heads", [3, 4])
@pytest.mark.parametrize("width", [8, 12, 64])
def test_rotations_round_a_row_alike(threads, heads, width):
    torch.manual_seed(0)
    table = rope_table(torch.arange(5)[:, None].expand(-1, 2), width)[None]
    x = torch.randn(300, 5, heads, width)
    together = rotate(x.clone(), turns(table))
    pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turns(table)
    torch.testing.assert_close(together, torch.view_as_real(pairs).flatten(-2))
    for row in (0, 1, 77, 99, 100, 149, 150, 200, 299):
        assert torch.equal(rotate(x[row : row + 1].clone(), turns(table))[0], together[row])


@pytest.mark.parametrize("name", ["nar_emoji64", "raster_emoji64"])
def test_shipped_models_draw_the_same_codes_in_any_batch(name):
    """Plain sampling: without temperature or top-k the last bits of a probability decide now and then."""
    model = arzoo.load(name)
    control = replace(model.control, temperature=1.0, top_k=0)

    def logits(rows: int) -> torch.Tensor:
        seeds = [sample_seed(7, i) for i in range(rows)]
        steps = model.stream(classes=list(range(rows)), seeds=seeds, control=control)
        return torch.cat([step.proposal.predict() for step, _ in zip(steps, range(6), strict=False)], 1)

    with torch.no_grad():
        together = logits(2 * ALIKE)
        for rows in (1, 3, ALIKE):
            assert torch.equal(logits(rows), together[:rows])
