"""Optimizers: learning rates, weight decay, and Muon for matrices."""

import sys

import pytest
import torch
import toy
from torch import nn
from toy import losses

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.models.himar.network import HiMARConfig
from arzoo.train.optim import matrices, optimizer, set_lr
from arzoo.train.settings import OptimConfig


def test_learning_rate_schedules():
    cosine = OptimConfig(warmup=10)
    assert cosine.factor(0, 100) == pytest.approx(0.1)
    assert cosine.factor(10, 100) == 1
    assert cosine.factor(55, 100) == pytest.approx(0.5)
    assert cosine.factor(99, 100) < 0.01
    assert OptimConfig(warmup=0, schedule="constant").factor(99, 100) == 1
    wsd = OptimConfig(warmup=10, schedule="wsd", decay=0.2)
    assert [wsd.factor(step, 100) for step in (4, 10, 79, 80, 90, 99)] == pytest.approx(
        [0.5, 1, 1, 1, 0.5, 0.05]
    )
    with pytest.raises(ArzooError, match=r"decay is a share of the steps, in \(0, 1\], got 2"):
        OptimConfig(decay=2.0)


def decays(optimizer, module):
    names = {p: name for name, p in module.named_parameters()}
    return {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


def test_weight_decay_by_name_and_shape():
    net = toy.Net()
    found = decays(optimizer(net, OptimConfig(weight_decay=0.3, no_decay=("out.*",))), net)
    assert found["blocks.0.linear.weight"] == 0.3
    assert found["out.weight"] == found["blocks.0.linear.bias"] == found["blocks.0.norm.weight"] == 0
    assert len(found) == len(list(net.parameters()))
    with pytest.raises(ArzooError, match=r"'\*diffloss\*', which matches no parameter"):
        optimizer(net, OptimConfig(no_decay=("*diffloss*",)))


def test_muon_takes_the_matrices_of_blocks(tmp_path):
    net = toy.Net()
    made = optimizer(net, OptimConfig(name="muon", lr=1e-3, matrix_lr=5e-3, weight_decay=0.0))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net(torch.randn(16, 8)).square().mean().backward()
    set_lr(made, 1e-3)
    made.step()
    change = {name: p.detach() - before[name] for name, p in net.named_parameters()}
    matrix = torch.linalg.svdvals(change["blocks.0.linear.weight"])
    # The layer norm before it leaves one direction without a gradient.
    assert matrix[0] / matrix[6] < 3, "orthogonalised: singular values about equal"
    # Scaled to the size of AdamW's updates: 0.2 of the learning rate a weight.
    assert change["blocks.0.linear.weight"].square().mean().sqrt() == pytest.approx(0.2 * 5e-3, rel=0.3)
    assert change["out.weight"].abs().mean() == pytest.approx(1e-3, rel=0.05), "AdamW's first step"
    with pytest.raises(
        ArzooError, match=r"names no matrix of the model.* Its matrices: blocks.0.linear.weight"
    ):
        optimizer(net, OptimConfig(name="muon", matrices=("*layers.*",)))
    with pytest.raises(
        ArzooError, match=r"no matrix lies inside a block of the model.* Its matrices: weight"
    ):
        optimizer(nn.Linear(8, 8), OptimConfig(name="muon"))


def test_muon_takes_kernels_that_are_named():
    net = nn.Sequential(nn.Conv3d(2, 4, (1, 2, 2)), nn.Linear(4, 4))
    assert matrices(net, OptimConfig(name="muon", matrices=("*",))) == {"0.weight", "1.weight"}
    made = optimizer(net, OptimConfig(name="muon", matrices=("0.weight",), lr=1e-3, weight_decay=0.0))
    before = net[0].weight.detach().clone()
    net[0](torch.randn(3, 2, 5, 6, 6)).square().mean().backward()
    made.step()
    values = torch.linalg.svdvals((net[0].weight.detach() - before).flatten(1))
    assert values[0] / values[-1] < 3, "orthogonalised as the matrix (outputs, inputs x size)"


@pytest.mark.parametrize(
    ("name", "each", "blocks"),
    [("nar_tiny", 4, 6), ("mar_tiny", 4, 6), ("xar_tiny", 5, 8), ("flowar_tiny", 5, 6)],
)
def test_muon_takes_every_matrix_of_every_block(name, each, blocks):
    with torch.device("meta"):
        net = registry.create("backbone", name)
    taken, everything = matrices(net, OptimConfig(name="muon")), dict(net.named_parameters())
    assert len(taken) == each * blocks
    assert sum(".qkv." in weight for weight in taken) == blocks
    assert not [w for w in taken if everything[w].dim() != 2 or w.startswith(("token", "label", "condition"))]


def test_muon_continues_exactly(tmp_path):
    for out, ends in (("a", [8]), ("b", [3, 8])):
        for end in ends:
            toy.train(tmp_path / out, end, optim={"name": "muon", "matrix_lr": 1e-2})
    step = "state/step_0000008"
    assert toy.same(toy.tensors(tmp_path / "a" / step), toy.tensors(tmp_path / "b" / step))
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]


@pytest.mark.parametrize(("units", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_computes_in_what_the_processor_is_fast_in(monkeypatch, units, dtype):
    import timm.optim.muon as timm_muon

    seen, orthogonal = [], timm_muon.zeropower_via_newtonschulz

    def seeing(*args, **kwargs):
        found = orthogonal(*args, **kwargs)
        seen.append(found.dtype)
        return found

    monkeypatch.setattr(timm_muon, "zeropower_via_newtonschulz", seeing)
    monkeypatch.setattr("arzoo.train.optim.bfloat_units", lambda: units)
    net = toy.Net()
    made = optimizer(net, OptimConfig(name="muon"))
    net(torch.randn(16, 8)).square().mean().backward()
    made.step()
    assert set(seen) == {dtype}
    assert timm_muon.zeropower_via_newtonschulz is seeing, "others' Muon is left as it is"


def test_muon_that_is_not_installed_is_explained(monkeypatch):
    import timm.optim

    monkeypatch.delattr(timm.optim, "muon")
    monkeypatch.setitem(sys.modules, "timm.optim.muon", None)
    with pytest.raises(ArzooError, match=r"needs timm 1\.0\.20 or later, this is .* Upgrade with"):
        optimizer(toy.Net(), OptimConfig(name="muon"))


def test_factors_of_stages_are_decayed_and_no_matrices():
    """As published; orthogonal rows of gates would mean nothing."""
    sizes = {
        "width": 16,
        "depth": 1,
        "heads": 2,
        "decoder_depth": 1,
        "channels": 4,
        "levels": (2, 4),
        "classes": 3,
    }
    backbone = HiMARConfig(**sizes).build()
    factors = {
        name for name, _ in backbone.named_parameters() if "stage_scale" in name or "stage_shift" in name
    }
    muon = OptimConfig(name="muon")
    assert len(factors) == 4
    assert not factors & matrices(backbone, muon)
    decayed = {
        id(p)
        for group in optimizer(backbone, muon).param_groups
        if group["weight_decay"]
        for p in group["params"]
    }
    assert {id(dict(backbone.named_parameters())[name]) for name in factors} <= decayed
