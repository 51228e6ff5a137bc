"""The contract of generation, for every plan with a backbone that reads it."""

import copy

import pytest
import torch
from contracts.cases import SAMPLES, SEEDS, cases
from reference import Pivots
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from arzoo.core.contracts import Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.models.himar.network import DENSE, HiMAR
from arzoo.samplers.loop import generate
from arzoo.samplers.solvers.flow import Solver

CASES = cases()
OTHERS = cases(seed=1)  # the same parts with other weights
pytestmark = pytest.mark.parametrize("name", CASES)


def close(a, b, tolerance=2e-5):
    """Equal codes, or vectors within a relative tolerance; NaN is never close."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    return bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-6))


def parallel_read(case, run, step, full):
    """What the parallel pass says about the group of a step."""
    plan, backbone = run.plan, case.model.backbone
    tokens = Tokens(full, run.tokens.known, run.tokens.given, run.tokens.length)
    cond = run.state.cond.select(torch.arange(SAMPLES))
    if isinstance(backbone, HiMAR) and plan.stage[step] == DENSE and "vectors_B" in run.state.tensors:
        vectors = run.state.tensors["vectors_B"]  # of several passes, which the parallel one has no equal of
        everything = torch.arange(plan.layout.size)[None]
        return Read(everything, backbone.dense_pass(vectors, full, run.tokens.known, cond)[1][:, :, None])
    stage = {"stage": plan.stage[step]} if isinstance(backbone, Pivots) else {}
    return backbone.features(tokens, cond, plan, **stage)


def at_group(values, positions, group):
    """Rows of values (B, m, ...) at the positions of a group."""
    positions, group = positions.expand(SAMPLES, -1), group.expand(SAMPLES, -1)
    where = (positions[:, None] == group[:, :, None]).int().argmax(2)
    index = where.reshape(*where.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(-1, -1, *values.shape[2:]))


def views(case, run, step, full):
    """(stepped, stepped again, parallel) features or velocities of a group."""
    group, backbone = run.plan.groups[step], case.model.backbone
    first, second = (backbone.step(run.state, run.tokens, step) for _ in range(2))
    whole = parallel_read(case, run, step, full)
    if first.query is None:
        mask = 1.0 if first.available is None else at_group(
            first.available.expand(SAMPLES, -1, -1), first.positions, group)[..., None]  # fmt: skip
        return [at_group(r.features[:SAMPLES], r.positions, group) * mask for r in (first, second, whole)]
    noisy = torch.randn(
        SAMPLES, run.plan.layout.size, full.shape[2], generator=torch.Generator().manual_seed(step)
    )
    t = torch.where(run.plan.slot_rank == step, 0.7, 0.0)
    return [first.query(gather_positions(noisy, group), 0.7), second.query(gather_positions(noisy, group), 0.7),
            gather_positions(whole.query(noisy, t), group)]  # fmt: skip


def check_stepped_equals_parallel(case):
    full = case.finish(case.begin()).tokens.values
    run = case.begin()
    for step, group in enumerate(run.plan.groups):
        if run.todo[step]:
            stepped, again, parallel = views(case, run, step, full)
            assert close(stepped, parallel), f"step {step}"
            assert close(again, stepped, 1e-6), f"step {step} read twice"
        run.tokens.commit(group, gather_positions(full, group), group)


def check_own_seed_only(case):
    full = case.finish(case.begin()).tokens.values
    plan = case.plan(SAMPLES).select(torch.tensor([1]))
    tokens = case.tokens().select(torch.tensor([1]))
    alone = case.begin(tokens, SEEDS[1:2], plan=plan, labels=torch.tensor([1]))
    assert close(case.finish(alone).tokens.values, full[1:2], 1e-4)


def check_fork(case):
    full = case.finish(case.begin()).tokens.values
    run = case.finish(case.begin(), until=max(1, len(case.plan(SAMPLES)) // 2))
    index = torch.tensor([2, 0, 2])
    forked = case.finish(run.select(index)).tokens.values
    assert close(forked, full[index], 1e-4)
    assert close(case.finish(run).tokens.values, full, 1e-4), "the forked run was touched"


def check_given_tokens_stay(case):
    full = case.example()
    given = torch.rand(full.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.4
    run = case.finish(case.begin(case.tokens(full, given), seeds=[8, 9, 10]))
    assert torch.equal(run.tokens.values[given], full[given])
    assert bool(run.tokens.known.all())
    assert bool(torch.isfinite(run.tokens.values.double()).all())


def check_given_prefix_is_skipped(case):
    full = case.finish(case.begin()).tokens.values
    plan = case.plan(SAMPLES)
    middle = max(1, len(plan) // 2)
    if plan.confident:
        pytest.skip("its first groups are not known before")
    known = (plan.rank < middle).expand(SAMPLES, -1)
    run = case.begin(case.tokens(full, known))
    drawn = sum(step.proposal is not None for step in generate(case.model, run))
    assert drawn == len(plan) - middle
    assert close(run.tokens.values, full, 1e-4)


def check_early_stop_cuts_samples(case):
    full = case.finish(case.begin()).tokens.values
    run, size = case.begin(), case.spec.layout.size
    total = len(run.plan)
    stops = torch.tensor([min(1, total), min(3, total), min(2, total)])
    groups = [step.group for step in generate(case.model, run, stop=lambda r: r.k >= stops)]
    sizes = [group.shape[1] for group in run.plan.groups]
    assert run.tokens.length.tolist() == [sum(sizes[:k]) for k in stops.tolist()]
    assert run.k == (int(stops.max()) if int(run.tokens.length.max()) < size else total)
    for row, k in enumerate(stops.tolist()):
        kept = torch.cat([group.expand(SAMPLES, -1)[row] for group in groups[:k]])
        assert close(run.tokens.values[row, kept], full[row, kept], 1e-4)


def check_saving(case, other):
    """`other` has the same parts with other weights."""
    full = case.finish(case.begin()).tokens.values
    for part, fresh in zip(parts(case), parts(other), strict=True):
        fresh.load_state_dict(part.state_dict())
    assert torch.equal(other.finish(other.begin()).tokens.values, full)


def check_learning(case):
    for part in parts(case):
        for parameter in part.parameters():
            if not parameter.any():  # a layer that starts at zero hides what is behind it
                torch.nn.init.normal_(parameter, std=0.2)
    full, plan = case.example(), case.plan(SAMPLES)
    run, total = case.begin(), 0.0
    run.tokens.known = torch.rand(full.shape[:2], generator=torch.Generator().manual_seed(2)) < 0.5
    run.state.cond.dropped[0] = True  # as training does, so that the null condition learns
    for stage in range(plan.stages):
        read = parallel_read(case, run, plan.stage.index(stage), full)
        read = read.stages[stage] if read.stages else read
        targets, draws = gather_positions(full, read.positions), Draws(SEEDS)
        with torch.enable_grad():
            total = total + case.model.heads[stage].loss(read, targets, draws).mean()
    total.backward()
    for part in parts(case):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert bool(parameter.grad.isfinite().all()), f"the gradient of {name} is not finite"
            assert bool(parameter.grad.any()), f"the gradient of {name} vanishes"


def check_seeds_decide(case):
    first, second = (case.finish(case.begin()).tokens.values for _ in range(2))
    assert torch.equal(first, second), "same seeds"
    assert not torch.equal(first, case.finish(case.begin(seeds=[1, 2, 3])).tokens.values), "other seeds"


def check_guidance_of_one(case):
    controls = Control(top_k=7, head_steps=3, max_timestep=950)
    one = case.finish(case.begin(control=controls, branches=1)).tokens.values
    two = case.finish(case.begin(control=controls, branches=2)).tokens.values
    assert close(one, two, 1e-4)
    assert case.begin(control=controls).state.branches == 1
    assert case.begin().state.branches == 2


def parts(case):
    """All modules of a case."""
    return [case.model.backbone, *case.model.heads]


def test_stepped_equals_parallel(name):
    check_stepped_equals_parallel(CASES[name])


def test_a_sample_depends_on_its_own_seed(name):
    check_own_seed_only(CASES[name])


def test_fork_and_continue(name):
    check_fork(CASES[name])


def test_given_tokens_stay(name):
    check_given_tokens_stay(CASES[name])


def test_given_prefix_is_skipped(name):
    check_given_prefix_is_skipped(CASES[name])


def test_early_stop_cuts_samples(name):
    check_early_stop_cuts_samples(CASES[name])


def test_same_seed_same_picture_and_another_seed_another(name):
    check_seeds_decide(CASES[name])


def test_weights_survive_saving(name):
    check_saving(CASES[name], OTHERS[name])


def test_every_parameter_learns(name):
    check_learning(copy.deepcopy(CASES[name]))


def test_guidance_of_one_is_a_single_branch(name):
    check_guidance_of_one(CASES[name])


def test_the_loop_never_waits_for_the_device(name, monkeypatch):
    """Tensors without contents refuse to say what they hold, which is what would wait for an accelerator."""
    case, times = CASES[name], Solver.times

    def on_the_host(solver, steps):
        with unset_fake_temporarily():
            return times(solver, steps)

    monkeypatch.setattr(Solver, "times", on_the_host)
    full = case.example()[: len(SEEDS)]
    some = torch.rand(full.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.2
    for run in (case.begin(), case.begin(case.tokens(full, some))):
        with FakeTensorMode(allow_non_fake_inputs=True):
            case.finish(run, until=min(3, len(run.plan)))
        assert run.k == min(3, len(run.plan))
