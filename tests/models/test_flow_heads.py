"""Flow heads: training times, losses, temperature, given tokens."""

import pytest
import torch

from arzoo.core.contracts import Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.models.heads.flow import BackboneFlowConfig, FlowMLPConfig
from arzoo.samplers.plans.inplace import cells

GRID = Grid(1, 4, 4)


def test_training_times_are_one_a_group():
    plan, head = cells(GRID, 2), BackboneFlowConfig(channels=3).build()
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
