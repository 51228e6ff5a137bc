"""Flow solvers and heads, contexts of xAR, pyramids, and what users can get wrong."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from arzoo import compat, registry
from arzoo.checkpoint import load_parts, save_parts
from arzoo.cond import Cond
from arzoo.control import Control, Settings
from arzoo.draws import Draws
from arzoo.errors import ArzooError, UnknownName
from arzoo.layout import Grid, Pyramid
from arzoo.models.base import Read
from arzoo.models.flow_heads import BackboneFlowConfig, FlowMLPConfig
from arzoo.models.flow_net import FlowNetConfig
from arzoo.models.flowar import FlowARConfig
from arzoo.models.heads import CategoricalConfig
from arzoo.models.modulated import time_index
from arzoo.models.xar import XARConfig
from arzoo.pyramid import picture, pyramid
from arzoo.samplers import plans, schedules
from arzoo.samplers.loop import generate, propose, start
from arzoo.samplers.solvers.flow import (
    SOLVERS,
    denser_end,
    euler,
    euler_maruyama,
    flow_solver,
    heun,
    until_004,
)
from arzoo.tokens import Tokens, TokenSpec

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


def run_of(backbone, head, plan, control, batch=2):
    model = SimpleNamespace(backbone=backbone, heads=[head])
    cond = Cond(batch, label=torch.arange(batch))
    return model, start(model, plan, cond, control, SPEC.empty(batch), Draws(range(batch)))


# ------------------------------------------------------------------------------------------------ solvers


def gaussian(mean, deviation):
    """The velocity field of data that is normal with a mean and a deviation."""

    def velocity(x, t):
        a, variance = 1 - t, (1 - t) ** 2 * deviation**2 + t**2
        residual = x - a * mean
        return (t - a * deviation**2) / variance * residual - mean

    return velocity


def test_published_grids():
    assert denser_end(6).tolist() == pytest.approx([1, 0.65, 0.3, 0.25, 0.25 * 2 / 3, 0.25 / 3, 0])
    assert torch.equal(denser_end(25), denser_end(24)), "an odd count loses one"
    assert denser_end(50).tolist() == pytest.approx([1 - i / 50 for i in range(51)])
    assert until_004(3).tolist() == pytest.approx([1, 0.52, 0.04, 0])
    for steps in range(3, 30):
        for solver in SOLVERS.values():
            times = solver.times(steps)
            assert (times[0], times[-1]) == (1, 0)
            assert bool((times.diff() < 0).all())


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_orders_of_convergence(solver, order):
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    exact = 0.4 + 0.5 * x  # the flow of one Gaussian to another is linear
    errors = [
        (solver(gaussian(0.4, 0.5), x, torch.linspace(1, 0, n + 1).double(), None) - exact).abs().max()
        for n in (20, 40, 80)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert float(coarse / fine) == pytest.approx(2**order, rel=0.2)


def test_euler_maruyama_keeps_the_distribution():
    draws = Draws(range(4))
    x = draws.normal((4, 5000, 1))
    times = until_004(200)
    found = euler_maruyama(gaussian(0.4, 0.5), x, times, lambda: draws.normal(x.shape, torch.float64))
    assert found.mean().item() == pytest.approx(0.4, abs=0.02)
    assert found.std().item() == pytest.approx(0.5, rel=0.05)
    ordinary = euler(gaussian(0.4, 0.5), x, times, None)
    for samples, least, most in ((found, 0.2, 0.4), (ordinary, 0.999, 1.001)):
        correlation = torch.corrcoef(torch.stack([samples.flatten(), x.flatten()]))[0, 1]
        assert least < correlation < most, "noise on the way makes it forget where it started"


def test_the_state_is_double_and_the_network_sees_single():
    seen = set()

    def velocity(x, t):
        seen.add((x.dtype, type(t)))
        return torch.zeros_like(x)

    x = torch.ones(1, 2, 3)
    for solver in SOLVERS.values():
        found = solver.integrate(velocity, x, solver.times(3), lambda: torch.zeros(1, 2, 3).double())
        assert found.dtype == torch.float32
    assert seen == {(torch.float32, float)}


@pytest.mark.parametrize(
    ("head", "solver", "least"),
    [
        (BackboneFlowConfig(), None, 3),
        (BackboneFlowConfig(), "euler", 1),
        (FlowMLPConfig(width=16), "heun", 1),
        (FlowNetConfig(width=16), None, 2),
        (FlowNetConfig(width=16), "euler-maruyama", 3),
    ],
)
def test_too_few_head_steps_are_refused(head, solver, least):
    built = head.build()
    read = Read(torch.arange(4)[None], features=torch.zeros(1, 4, 1, 16))

    def draw(steps):
        at = Settings(head_steps=steps, solver=solver)
        return built.sample(lambda x, t: torch.zeros_like(x), read, at, Draws([0]))

    assert draw(least).shape == (1, 4, 16)
    for steps in {least - 1, -1} - {0}:  # 0 is the head's own number
        with pytest.raises(ArzooError, match=f"at least {least} head steps, got {steps}"):
            draw(steps)
    assert torch.equal(draw(0), draw(head.head_steps))


def test_unknown_solvers_and_shapes_are_named():
    with pytest.raises(UnknownName, match=r"'euler-maruyama'"):
        flow_solver("euler-maruyana")
    with pytest.raises(UnknownName, match="'linear'"):
        schedules.anneal(9, 3, "liner")
    with pytest.raises(ArzooError, match="got 50 to 0, both must be at least 1"):
        schedules.anneal(50, 0)


def test_time_index_rounds_in_single_precision():
    assert time_index(0.04).item() == 40
    assert time_index(torch.tensor([0.0, 1.0])).tolist() == [0, 1000]
    # 0.68 in float64 times 1000 is just below 680.
    assert time_index(0.68).item() == 680
    assert math.trunc(0.6799999999999999 * 1000) == 679


# ------------------------------------------------------------------------------------------------ heads


def test_training_times_are_one_a_group():
    plan, head = plans.cells(GRID, 2), BackboneFlowConfig(channels=3).build()
    read = Read(torch.arange(16)[None], parts=[Read(group) for group in plan.groups])
    targets = torch.zeros(500, 16, 3)
    times = head.times(read, targets, Draws(range(500)))
    for group in plan.groups:
        assert torch.equal(times[:, group[0]], times[:, group[0, :1]].expand(-1, 4))
    rows = times[:, [int(group[0, 0]) for group in plan.groups]]
    assert rows.logit().mean().item() == pytest.approx(0, abs=0.1)
    assert rows.logit().std().item() == pytest.approx(1, abs=0.1)
    assert (torch.corrcoef(rows.T) - torch.eye(4)).abs().max() < 0.2
    own = (
        FlowMLPConfig(channels=3, width=16)
        .build()
        .times(Read(torch.arange(16)[None]), targets, Draws(range(500)))
    )
    assert own.mean().item() == pytest.approx(0.5, abs=0.02)
    assert len(own.unique()) > 7000, "a token has a time of its own"


def test_loss_is_zero_for_the_true_velocity():
    head, targets = BackboneFlowConfig(channels=3).build(), torch.randn(2, 16, 3)
    # x_t = (1 - t) data + t noise, so noise - data = (x_t - data) / t.
    read = Read(torch.arange(16)[None], query=lambda x, t: (x - targets) / t[..., None])
    assert head.loss(read, targets, Draws([0, 1])).max() < 1e-8
    wrong = Read(torch.arange(16)[None], query=lambda x, t: (x - targets) / t[..., None] + 1)
    assert torch.allclose(head.loss(wrong, targets, Draws([0, 1])), torch.ones(2, 16), atol=1e-4)


def test_temperature_scales_the_noise():
    head = BackboneFlowConfig(channels=3).build()
    read = Read(torch.arange(16)[None])

    def draw(**settings):
        return head.sample(
            lambda x, t: torch.zeros_like(x), read, Settings(head_steps=3, **settings), Draws([0])
        )

    assert draw(temperature=0.0).abs().max() == 0
    assert torch.allclose(draw(temperature=0.5), draw() / 2)


def test_given_tokens_guide_their_group():
    """A token that exists is shown to the network at the noise of the moment, and returned as it is."""
    values, seen = torch.full((1, 2, 3), 5.0), []
    read = Read(torch.arange(2)[None], known=torch.tensor([[True, False]]), values=values)

    def predict(x, t):
        seen.append((t, x[0, 0]))
        return torch.zeros_like(x)

    head = BackboneFlowConfig(channels=3).build()
    found = head.sample(predict, read, Settings(head_steps=4, solver="euler"), Draws([0]))
    assert torch.equal(found[0, 0], values[0, 0])
    noise = Draws([0]).normal((1, 2, 3))[0, 0]
    for t, x in seen:
        assert torch.allclose(x, (1 - t) * values[0, 0] + t * noise, atol=1e-6)


def test_a_small_flow_learns_a_mean():
    """A few steps of training move samples to the data."""
    torch.manual_seed(0)
    head = FlowMLPConfig(channels=2, width=4, hidden=32, depth=1).build()
    read = Read(torch.arange(8)[None], features=torch.zeros(16, 8, 1, 4))
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    for step in range(150):
        loss = head.loss(read, torch.full((16, 8, 2), 0.7), Draws(range(16), step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        drawn = head.sample(
            lambda x, t: head.predict(read, x, t), read, Settings(head_steps=20), Draws(range(16))
        )
    assert drawn.mean().item() == pytest.approx(0.7, abs=0.1)
    assert drawn.std() < 0.3, "it started at 1"


# ------------------------------------------------------------------------------------------------ backbones


def test_clean_and_noisy_contexts():
    """What is known is a clean context, the rest is the query; clean contexts equal those of drawing."""
    backbone, plan = xar(), plans.cells(GRID, 2)
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
    backbone, head, plan = xar(), BackboneFlowConfig(channels=3).build(), plans.cells(GRID, 2)
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
    backbone, head, plan = xar(), BackboneFlowConfig(channels=3).build(), plans.cells(GRID, 2)
    model, run = run_of(backbone, head, plan, Control(head_steps=3))
    old = propose(model, run)
    for _ in generate(model, run):
        if run.k == 2:
            break
    with pytest.raises(AssertionError, match="until the next step"):
        old.sample(Draws([0, 1]))


def test_modulations_are_computed_once_a_group_not_once_a_token():
    backbone, plan = xar(), plans.cells(GRID, 2)
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
    read = backbone.step(
        backbone.start(Cond(1, label=torch.tensor([0])), plans.whole(GRID), 1), SPEC.empty(1), 0
    )
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
        plan, head = plans.cells(config.layout, 2), BackboneFlowConfig(channels=config.channels).build()
        known = torch.zeros(4, 64).bool()
    else:
        plan = plans.scales(config.layout)
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
        model, run = run_of(found["backbone"], found["head"], plans.cells(GRID, 2), Control(head_steps=3))
        for _ in generate(model, run):
            pass
        drawn.append(run.tokens.values)
    assert torch.equal(*drawn)


# ------------------------------------------------------------------------------------------------ what fits


def test_what_does_not_fit_is_said():
    backbone, head = xar(), BackboneFlowConfig(channels=3).build()
    cells = plans.cells(GRID, 2)
    assert compat.check(SPEC, backbone, cells, [head]) == []
    texts = {
        "raster": compat.check(SPEC, backbone, plans.raster(GRID), [head]),
        "codes": compat.check(
            TokenSpec(GRID, vocab=9), backbone, cells, [CategoricalConfig(vocab=9).build()]
        ),
        "channels": compat.check(TokenSpec(GRID, channels=8), backbone, cells, [head]),
        "grid": compat.check(
            TokenSpec(Grid(1, 8, 8), channels=3), backbone, plans.cells(Grid(1, 8, 8), 2), [head]
        ),
        "discrete": compat.check(SPEC, backbone, cells, [CategoricalConfig().build()]),
        "features": compat.check(SPEC, backbone, cells, [FlowMLPConfig(channels=3).build()]),
    }
    wanted = {
        "raster": "XAR reads inplace",
        "codes": "works on features, XAR gives query",
        "channels": "XAR was made for 3",
        "grid": "XAR was made for Grid",
        "discrete": "Categorical draws codes, the tokenizer's tokens are vectors",
        "features": "FlowMLP works on features, XAR gives query",
    }
    for name, found in texts.items():
        assert any(wanted[name] in str(misfit) for misfit in found), (name, found)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ArzooError, match="multiple of 4"):
        XARConfig(width=30, heads=5)
    with pytest.raises(ArzooError, match="hidden must be a multiple, got 100"):
        FlowNetConfig(hidden=100)
