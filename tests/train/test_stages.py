"""Training of plans with several stages: what is hidden, what later stages see, and how losses weigh."""

import pytest
import torch
from continuous_recipes import MODELS, recipe

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws, step_rng
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.dit import DiTConfig
from arzoo.samplers.plans.pivots import pivots
from arzoo.train.masking import cosine_count
from arzoo.train.run.health import hidden_by_step
from arzoo.train.settings import GeneratorLoss
from arzoo.train.stages import hidden_counts, hidden_tokens, stage_weights

LAYOUT = Pyramid((Grid(1, 8, 8), Grid(1, 16, 16)))
PLAN = pivots(LAYOUT, [torch.arange(64), torch.arange(256)], (32, 4))


def test_each_stage_hides_by_its_own_rule():
    counts = [hidden_counts(PLAN, step_rng(0, step), 0.7) for step in range(900)]
    first, second = (sorted(column) for column in zip(*counts, strict=True))
    assert first[0] >= 45
    assert first[-1] == 64
    # The angle is uniform, so a third of the shares are below 1/2: cos(pi/2 u) < 1/2 for u > 2/3.
    assert 0.28 < sum(count < 128 for count in second) / 900 < 0.38
    assert second[0] >= 1
    assert [cosine_count(u, 256) for u in (0.0, 0.5, 1.0)] == [256, 182, 1]


def test_hidden_tokens_are_random_and_differ_between_samples():
    hidden = hidden_tokens(PLAN, [50, 200], Draws(range(4)))
    assert hidden.shape == (4, 250)
    assert torch.equal(hidden, hidden.sort(1).values)
    assert (hidden[:, :50] < 64).all()
    assert (hidden[:, 50:] >= 64).all()
    assert len({tuple(row) for row in hidden.tolist()}) == 4
    alone = hidden_tokens(PLAN, [50, 200], Draws([2]))
    assert torch.equal(alone[0], hidden[2]), "a sample depends on its batch"


def test_weights_give_the_published_loss():
    """0.4 L1 + 0.6 L2 at the published sizes, where L2 is divided by all dense tokens."""
    heads = [DiffusionMLPConfig().build(), DiTConfig().build()]
    each = torch.rand(3, 250, generator=torch.Generator().manual_seed(0))
    weights = stage_weights(PLAN, heads, (2.0, 0.75), (50, 200))
    expected = 0.4 * each[:, :50].mean() + 0.6 * each[:, 50:].sum(1).mean() / 256
    torch.testing.assert_close((each * weights).mean(), expected)


def test_the_share_that_sees_pivots_rises():
    settings = GeneratorLoss(shown=0.5, shown_warmup=100)
    assert [settings.share_shown(step) for step in (0, 50, 100, 900)] == [0.0, 0.25, 0.5, 0.5]
    assert GeneratorLoss().share_shown(0) == 0.25


def test_stretches_count_inside_their_stage():
    stretches = hidden_by_step(PLAN)
    assert stretches[0] == (64, 0)
    assert stretches[-1][1] == 1
    assert all(n <= (64, 256)[stage] for n, stage in stretches)


def objective_of(tmp_path, **changes):
    return recipe(tmp_path, **MODELS["himar"] | changes).build()


def test_the_first_step_shows_nothing_and_label_drops_are_independent(two_colours, tmp_path):
    settings = {"generator": {"guidance": 1.0, "shown": 1.0, "shown_warmup": 10, "label_dropout": 0.5}}
    objective = objective_of(tmp_path, **settings)
    first, last = (objective.batch(step, range(64)) for step in (0, 10))
    assert first.unseen.all()
    assert not last.unseen.any()
    assert last.cond.dropped.float().mean() > 0.2
    assert not torch.equal(last.cond.dropped, last.later.dropped)
    other = objective.batch(10, range(32, 64))
    assert torch.equal(other.later.dropped, last.later.dropped[32:]), "a sample depends on its batch"


def test_what_is_hidden_does_not_leak(two_colours, tmp_path):
    """Values of hidden dense tokens, and of pivots whose features are not shown, do not move the dense features."""
    objective = objective_of(tmp_path)
    backbone, batch = objective.model.backbone.eval(), objective.batch(0, range(8))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    conds = [batch.cond, batch.later]

    @torch.no_grad()
    def features(values, unseen=None):
        return backbone.staged(Tokens.of(values, batch.known), conds, unseen).features[:, :, 0]

    count = backbone.pivots
    changed = batch.values.clone()
    changed[~batch.known] += 7.0
    torch.testing.assert_close(features(changed), features(batch.values), rtol=0, atol=0)
    none = torch.ones(8, dtype=torch.bool)
    moved = batch.values.clone()
    moved[:, :count] += 7.0
    hidden = [features(values, none)[:, count:] for values in (batch.values, moved)]
    torch.testing.assert_close(*hidden, rtol=0, atol=0)
    if batch.known[:, :count].any():
        assert not torch.equal(features(moved)[:, count:], features(batch.values)[:, count:])


def test_a_dit_sees_all_tokens_and_counts_the_hidden_ones(two_colours, tmp_path):
    objective = recipe(tmp_path, **MODELS["mar with a dit"]).build()
    part, batch = objective.parts["model"].eval(), objective.batch(0, range(4))
    with torch.no_grad():
        each = part(batch)
        read = part.backbone.features(Tokens.of(batch.values, batch.known), batch.cond, part.plan)
        again = part.heads[0].loss(read, batch.targets, objective.batch(0, range(4)).draws)
    torch.testing.assert_close(each, gather_positions(again, batch.asked))


def test_heads_must_be_as_many_as_stages(two_colours, tmp_path):
    with pytest.raises(ArzooError, match=r"has 2 stages, and the heads are diffusion_mlp_tiny: name one per"):
        objective_of(tmp_path, heads=["diffusion_mlp_tiny"])
    with pytest.raises(ArzooError, match=r"heads are dit_tiny, dit_tiny: .* plan 'masked' has one stage"):
        recipe(tmp_path, **MODELS["mar"] | {"heads": ["dit_tiny", "dit_tiny"]})
