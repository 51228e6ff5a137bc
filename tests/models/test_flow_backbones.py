"""xAR and FlowAR: contexts, caches, pyramids, and what does not fit them."""

from types import SimpleNamespace

import pytest
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.pyramid import picture, pyramid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation import fit
from arzoo.models.common.modulation import ModulatedBlock, Modulation
from arzoo.models.common.rope import turns
from arzoo.models.flowar.network import FlowARConfig
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.heads.flow import BackboneFlowConfig, FlowMLPConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.models.xar.network import XARConfig
from arzoo.samplers.loop import generate, propose, start
from arzoo.samplers.plans.inplace import cells, whole
from arzoo.samplers.plans.scales import scales
from arzoo.samplers.plans.shifted import raster

GRID = Grid(1, 4, 4)
SPEC = TokenSpec(GRID, channels=3)
SIZES = {
    "width": 16,
    "encoder_depth": 1,
    "decoder_depth": 1,
    "heads": 2,
    "channels": 3,
    "classes": 5,
    "dropout": 0.0,
}


def xar():
    torch.manual_seed(0)
    return XARConfig(**SIZES, grid=(1, 4, 4)).build().eval()


def test_a_shared_dropout_mask_treats_positions_alike():
    torch.manual_seed(0)
    alike = {}
    for shared in (False, True):
        block = ModulatedBlock(16, 2, 32, 1e-6, dropout=0.5, shared_dropout=shared).train()
        same = Modulation(torch.randn(2, 1, 16))
        x, rope = (
            torch.randn(2, 1, 16).expand(2, 6, 16),
            turns(torch.tensor([1.0, 0.0]).expand(1, 6, 4, 2).contiguous()),
        )
        y = block(x, same, rope)
        alike[shared] = torch.allclose(y, y[:, :1].expand_as(y), atol=1e-5)
        assert not torch.allclose(y, block.eval()(x, same, rope), atol=1e-3)
    assert alike == {False: False, True: True}


def run_of(backbone, head, plan, control, batch=2):
    model = SimpleNamespace(backbone=backbone, heads=[head])
    cond = Cond(batch, label=torch.arange(batch))
    return model, start(model, plan, cond, control, SPEC.empty(batch), Draws(range(batch)))


def test_clean_and_noisy_contexts():
    """What is known is a clean context, the rest is the query; clean contexts equal those of drawing."""
    backbone, plan = xar(), cells(GRID, 2)
    values, x = torch.randn(2, 16, 3), torch.randn(2, 16, 3)
    cond, t = Cond(2, label=torch.tensor([0, 1])), torch.rand(2, 4)[:, plan.rank]

    def query(known, contexts, noisy, times):
        return backbone.features(Tokens.of(contexts, known), cond, plan).query(noisy, times)

    nothing, everything = torch.zeros(2, 16).bool(), torch.ones(2, 16).bool()
    with torch.no_grad():
        noisy = query(nothing, values, x, t)
        clean = query(everything, values, x, t)
        assert torch.equal(noisy, query(nothing, values + 1, x, t)), "an empty canvas is not looked at"
        first, last = plan.groups[0][0], plan.groups[-1][0]
        assert torch.allclose(noisy[:, first], clean[:, first], atol=1e-5), "the first group has no context"
        assert not torch.allclose(noisy[:, last], clean[:, last], atol=1e-3)
        # Noisy contexts that are in fact clean, at time 0, are clean contexts.
        same = torch.where((plan.rank == 3)[:, None], x, values)
        told = torch.where(plan.rank == 3, t, torch.zeros(()))
        assert torch.allclose(query(nothing, values, same, told)[:, last], clean[:, last], atol=1e-5)
        half = everything & (plan.rank < 2)
        assert torch.allclose(
            query(half, values, x, t)[:, plan.groups[2][0]], clean[:, plan.groups[2][0]], atol=1e-5
        )


def test_a_group_is_fed_once():
    backbone, head, plan = xar(), BackboneFlowConfig(channels=3).build(), cells(GRID, 2)
    fed, trunk = [], backbone.trunk

    def counting(x, slots, *rest):
        fed.append((x.shape[1], rest[3] if len(rest) > 3 else 0))
        return trunk(x, slots, *rest)

    backbone.trunk = counting
    model, run = run_of(backbone, head, plan, Control(head_steps=3))
    for _ in generate(model, run):
        pass
    clean = [fed[i] for i in (3, 7, 11)]
    assert clean == [(4, 0), (4, 4), (4, 8)], "each finished cell once, behind the earlier ones"
    assert len(fed) == 4 * 3 + 3
    assert {count for count, _ in fed} == {4}


def test_a_stale_read_is_refused():
    backbone, head, plan = xar(), BackboneFlowConfig(channels=3).build(), cells(GRID, 2)
    model, run = run_of(backbone, head, plan, Control(head_steps=3))
    old = propose(model, run)
    for _ in generate(model, run):
        if run.k == 2:
            break
    with pytest.raises(AssertionError, match="until the next step"):
        old.sample(Draws([0, 1]))


def test_modulations_are_computed_once_a_group_not_once_a_token():
    backbone, plan = xar(), cells(GRID, 2)
    rows = []
    backbone.encoder[0].modulation.register_forward_hook(lambda m, i, out: rows.append(out.shape[1]))
    nothing = torch.zeros(2, 16).bool()
    cond = Cond(2, label=torch.tensor([0, 1]))
    read = backbone.features(Tokens.of(torch.zeros(2, 16, 3), nothing), cond, plan)
    read.query(torch.randn(2, 16, 3), torch.rand(2, 4)[:, plan.rank])
    backbone.step(backbone.start(cond, plan, 1), SPEC.empty(2), 0).query(torch.randn(2, 4, 3), 0.5)
    assert rows == [len(plan) + 1, 1]


def test_rotary_tables_stay_single():
    backbone = xar().to(torch.bfloat16)
    assert backbone.encoder_rotary.table.dtype == torch.float32
    read = backbone.step(backbone.start(Cond(1, label=torch.tensor([0])), whole(GRID), 1), SPEC.empty(1), 0)
    assert bool(read.query(torch.randn(1, 16, 3), 0.5).isfinite().all())


def test_pyramids():
    layout = Pyramid(tuple(Grid(1, side, side) for side in (1, 2, 4)))
    latents = torch.randn(2, 3, 4, 4)
    values = pyramid(latents, layout)
    assert torch.equal(picture(values, layout, 2), latents)
    assert torch.allclose(picture(values, layout, 0)[..., 0, 0], latents.mean((2, 3)), atol=1e-6)
    assert torch.allclose(
        picture(values, layout, 1)[:, :, 0, 1], latents[:, :, :2, 2:].mean((2, 3)), atol=1e-6
    )
    backbone = FlowARConfig(**SIZES, levels=(1, 2, 4)).build()
    flat = backbone.draft(values, 1)
    assert torch.allclose(flat, values[:, :1].expand(-1, 4, -1), atol=1e-5), "one colour stays one colour"


@pytest.mark.parametrize("name", ["xar_tiny", "flowar_tiny"])
def test_tiny_presets_learn(name):
    """A few steps of training lower the loss of one picture."""
    torch.manual_seed(0)
    backbone = registry.create("backbone", name, width=48, encoder_depth=1, decoder_depth=1)
    config = backbone.config
    if name == "xar_tiny":
        plan, head = cells(config.layout, 2), BackboneFlowConfig(channels=config.channels).build()
        known = torch.zeros(4, 64).bool()
    else:
        plan = scales(config.layout)
        head = FlowNetConfig(
            width=48, channels=config.channels, hidden=64, depth=1, levels=config.levels
        ).build()
        known = torch.ones(4, config.layout.size).bool()
    targets = torch.randn(1, config.layout.size, config.channels).expand(4, -1, -1).contiguous()
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 2e-3)
    losses = []
    for step in range(25):
        read = backbone.features(Tokens.of(targets, known), Cond(4, label=torch.arange(4)), plan)
        losses.append(head.loss(read, targets, Draws(range(4), step)).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_parts_without_weights_are_saved_and_loaded(tmp_path):
    parts = {"backbone": xar(), "head": BackboneFlowConfig(channels=3, head_steps=7).build()}
    save_parts(tmp_path / "model", "generator", parts, plan={"name": "cells", "options": {"regions": 2}})
    _, loaded = load_parts(tmp_path / "model")
    assert loaded["head"].config.head_steps == 7
    drawn = []
    for found in (parts, loaded):
        model, run = run_of(found["backbone"], found["head"], cells(GRID, 2), Control(head_steps=3))
        for _ in generate(model, run):
            pass
        drawn.append(run.tokens.values)
    assert torch.equal(*drawn)


def test_what_does_not_fit_is_said():
    backbone, head = xar(), BackboneFlowConfig(channels=3).build()
    quarters = cells(GRID, 2)
    assert fit.check(SPEC, backbone, quarters, [head]) == []
    texts = {
        "raster": fit.check(SPEC, backbone, raster(GRID), [head]),
        "codes": fit.check(
            TokenSpec(GRID, vocab=9), backbone, quarters, [CategoricalConfig(vocab=9).build()]
        ),
        "channels": fit.check(TokenSpec(GRID, channels=8), backbone, quarters, [head]),
        "grid": fit.check(TokenSpec(Grid(1, 8, 8), channels=3), backbone, cells(Grid(1, 8, 8), 2), [head]),
        "discrete": fit.check(SPEC, backbone, quarters, [CategoricalConfig().build()]),
        "features": fit.check(SPEC, backbone, quarters, [FlowMLPConfig(channels=3).build()]),
    }
    wanted = {
        "raster": "backbone xar reads inplace",
        "codes": "works on features, backbone xar gives query",
        "channels": "backbone xar was made for 3",
        "grid": "backbone xar was made for Grid",
        "discrete": "head categorical draws codes, the tokenizer's tokens are vectors",
        "features": "head flow_mlp works on features, backbone xar gives query",
    }
    for name, found in texts.items():
        assert any(wanted[name] in str(misfit) for misfit in found), (name, found)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ArzooError, match="multiple of 4"):
        XARConfig(width=30, heads=5)
    with pytest.raises(ArzooError, match="hidden must be a multiple, got 100"):
        FlowNetConfig(hidden=100)
