"""Drivers beside the one loop: they propose, commit and fork by themselves and need nothing of the loop changed."""

import pytest
import torch
from contracts.cases import LEVELS, SAMPLES, SEEDS, SQUARE, case, cases, orders
from contracts.test_generation import close
from reference import Draft, Masked

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.samplers import schedules
from arzoo.samplers.loop import draw, generate, propose
from arzoo.samplers.plans.inplace import masked
from arzoo.samplers.plans.scales import scales

NAMES = [
    "transformer next-neighbor",
    "raster vectors",
    "masked",
    "confident",
    "cells",
    "scales",
    "pivots",
    "himar",
    "custom a sample",
]


@pytest.mark.parametrize("name", NAMES)
def test_proposing_and_committing_by_hand_is_the_loop(name):
    made = cases()[name]
    full = made.finish(made.begin()).tokens.values
    run = made.begin()
    while run.k < len(run.plan):
        proposal = propose(made.model, run)
        group, values = draw(run, proposal)
        run.tokens.commit(group, values, proposal.read.positions)
        run.k += 1
    assert torch.equal(run.tokens.values, full)


@pytest.mark.parametrize(
    "name", ["transformer raster", "custom a sample", "masked vectors", "cells", "pivots", "himar"]
)
def test_a_search_forks_scores_and_drops(name):
    """Two candidates a sample at each of three steps, of which the better goes on."""
    made = cases()[name]
    run = made.begin()
    scored = torch.arange(SAMPLES)
    while run.k < min(3, len(run.plan)):
        twice = torch.arange(SAMPLES).repeat_interleave(2)
        wide = run.select(twice, seeds=[seed + 100 * i for seed in run.draws.seeds for i in range(2)])
        before = run.tokens.values.clone()
        proposal = propose(made.model, wide)
        wide.tokens.commit(proposal.group, proposal.sample(wide.draws.at(wide.k)), proposal.read.positions)
        wide.k += 1
        assert torch.equal(run.tokens.values, before), "the run that was forked"
        score = wide.tokens.at(proposal.group).double().flatten(1).sum(1).view(SAMPLES, 2)
        scored = 2 * torch.arange(SAMPLES) + score.argmax(1)
        run = wide.select(scored)
    for _ in generate(made.model, run):
        pass
    assert bool(run.tokens.known.all())
    assert len(run.tokens.values) == SAMPLES
    assert bool(run.tokens.values.double().isfinite().all())


def test_forked_rows_differ_by_their_seeds_alone():
    made = cases()["transformer next-neighbor"]
    run = made.finish(made.begin(), until=2)
    same = made.finish(run.select(torch.tensor([1, 1]))).tokens.values
    assert torch.equal(same[0], same[1]), "siblings share their randomness unless they get seeds"
    fresh = made.finish(run.select(torch.tensor([1, 1]), seeds=[6, 7])).tokens.values
    assert torch.equal(fresh[0], same[0])
    assert not torch.equal(fresh[0], fresh[1])


@pytest.mark.parametrize("kind", [{"vocab": 11}, {"channels": 4}])
def test_masked_plans_schedule_the_smallest_number_of_given_tokens(kind):
    spec = TokenSpec(SQUARE, **kind)
    given = torch.zeros(SAMPLES, 16, dtype=torch.bool)
    for row, count in enumerate((3, 5, 8)):
        given[row, orders(16, SAMPLES, seed=7)[row, :count]] = True
    made = case(spec, masked(SQUARE, orders(16, SAMPLES), 4, given), Masked(spec))
    full = made.example()
    run = made.begin(Tokens.of(full, given))
    steps = list(generate(made.model, run))
    assert sum(step.group.shape[1] for step in steps) == 16 - 3
    assert torch.equal(run.tokens.values[given], full[given])
    assert bool(run.tokens.known.all())


def test_a_fully_given_canvas_comes_back():
    for name in ("raster", "masked", "scales"):
        made = cases()[name]
        full, known = made.example(), torch.ones(SAMPLES, made.spec.layout.size, dtype=torch.bool)
        plan = masked(SQUARE, orders(16, SAMPLES), 5, known) if name == "masked" else None
        run = made.finish(made.begin(Tokens.of(full, known), plan=plan))
        assert torch.equal(run.tokens.values, full)


def test_what_does_not_agree_is_refused_before_a_run():
    made = cases()["transformer raster"]
    with pytest.raises(ArzooError, match=r"label 5 is no class of the model, which has 5 classes, 0 to 4"):
        made.begin(labels=torch.tensor([0, 5, 1]))
    with pytest.raises(
        ArzooError, match=r"orders 12 positions of 1 samples, the canvas has 16 positions of 3"
    ):
        made.begin(plan=cases()["ordered"].plan(1))
    with pytest.raises(
        ArzooError, match=r"orders 16 positions of 2 samples, the canvas has 16 positions of 3"
    ):
        made.begin(plan=cases()["custom a sample"].plan(2))


def test_the_first_group_of_an_ordered_plan_is_told_apart():
    made = cases()["ordered by four"]
    proposal = propose(made.model, made.begin(control=Control()))
    logits = proposal.predict()
    assert all(not torch.equal(logits[:, i], logits[:, j]) for i in range(4) for j in range(i))


def test_given_scales_are_still_fed():
    spec = TokenSpec(LEVELS, vocab=11)
    made = case(spec, scales(LEVELS), Draft(spec))
    full = made.finish(made.begin()).tokens.values
    known = (scales(LEVELS).rank < 2).expand(SAMPLES, -1)
    run = made.begin(Tokens.of(full, known))
    proposals = [step.proposal for step in generate(made.model, run)]
    assert [proposal is None for proposal in proposals] == [True, True, False]
    assert close(run.tokens.values, full)


def test_codes_drawn_with_gumbel_noise_follow_the_same_contract():
    made = cases()["transformer next-neighbor"]
    run = made.begin()
    run.draws = Draws(SEEDS, gumbel=True)
    full = made.finish(run).tokens.values
    alone = made.begin(seeds=SEEDS[1:2], labels=torch.tensor([1]))
    alone.draws = Draws(SEEDS, gumbel=True).select([1])
    assert torch.equal(made.finish(alone).tokens.values, full[1:2])
    assert not torch.equal(made.finish(made.begin()).tokens.values, full)


def test_positions_without_a_source_are_given_or_refused():
    made = cases()["next-block given"]
    nothing, part = (
        Tokens.of(made.example(), torch.arange(16).expand(SAMPLES, -1) < count) for count in (0, 3)
    )
    with pytest.raises(
        ArzooError, match=r"'next_block' predicts 4 of its 16 positions \(0 to 3\) from nothing.*given="
    ):
        made.begin(nothing)
    with pytest.raises(ArzooError, match=r"1 of its 16 positions \(3 to 3\)"):
        made.begin(part)
    run = made.finish(made.begin())
    assert torch.equal(run.tokens.values[:, :4], made.example()[:, :4])


@pytest.mark.parametrize("name", ["raster", "mar", "xar cells", "flowar"])
def test_schedules_that_pass_between_whole_numbers_draw(name):
    made = cases()[name]
    between = Control(top_k=schedules.over_steps(7, 2), head_steps=schedules.over_steps(5.4, 3))
    rounded = Control(
        top_k=lambda p: round(schedules.over_steps(7, 2)(p)),
        head_steps=lambda p: round(schedules.over_steps(5.4, 3)(p)),
    )
    first, second = (made.finish(made.begin(control=control)).tokens.values for control in (between, rounded))
    assert torch.equal(first, second)


def test_head_times_mean_nothing_to_a_head_without_a_solver():
    made = cases()["raster"]
    with pytest.raises(ArzooError, match="schedule"):
        made.begin(control=Control(guidance=2.0, interval=(0.0, 1.0)))


@pytest.mark.parametrize("name", ["raster vectors", "mar", "xar cells", "flowar"])
def test_guidance_is_limited_to_shares_of_noise(name):
    one, steps = cases()[name], {"head_steps": 5, "max_timestep": 900}
    limited, full, off = (
        one.finish(one.begin(control=control)).tokens.values
        for control in (
            Control(guidance=3.0, **steps, interval=(0.2, 0.6)),
            Control(guidance=3.0, **steps),
            Control(guidance=3.0, **steps, interval=(0.01, 0.02)),
        )
    )
    everywhere, unguided = (
        one.finish(one.begin(control=control)).tokens.values
        for control in (Control(guidance=3.0, **steps, interval=(0.0, 1.0)), Control(**steps))
    )
    assert torch.equal(everywhere, full)
    assert close(off, unguided)
    assert not close(limited, full)
    assert not close(limited, off)
