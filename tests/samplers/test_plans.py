"""Plans: what every order has in common, the counts of the papers, and orders that are refused."""

import ast
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ROOT

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.core.layout import Grid, Ordered, Pyramid, layout_from_dict, layout_to_dict
from arzoo.core.plan import NONE, Plan
from arzoo.samplers.plans.about import OWN, about
from arzoo.samplers.plans.inplace import arccosine, cells, confident, falling_ranks, masked, subsamples, whole
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.plans.pivots import pivots
from arzoo.samplers.plans.samples import for_backbone, for_samples
from arzoo.samplers.plans.scales import scales
from arzoo.samplers.plans.shifted import custom, next_block, next_neighbor, parallel, raster, zipar

SIDES = st.integers(1, 6)


def orders(n, batch=2, seed=0):
    return torch.stack(
        [torch.randperm(n, generator=torch.Generator().manual_seed(seed + i)) for i in range(batch)]
    )


def some_plans(t, h, w, seed):
    grid = Grid(t, h, w)
    yield raster(grid)
    yield next_neighbor(grid)
    yield ordered(Ordered(grid.size))
    yield whole(grid)
    yield custom(grid, orders(grid.size, seed=seed))
    yield masked(grid, orders(grid.size, seed=seed), max(1, grid.size // 2))
    yield confident(grid, max(1, grid.size // 2))
    yield next_block(grid, h * w, hybrid=True)
    yield zipar(grid, 1 + seed % w)
    yield scales(Pyramid((Grid(1, 1, 1), grid)))


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_groups_partition_the_positions(t, h, w, seed):
    for plan in some_plans(t, h, w, seed):
        size = plan.layout.size
        for row in range(len(plan.slot_rank)):
            seen = torch.cat([group[row] for group in plan.groups])
            assert torch.equal(seen.sort().values, torch.arange(size)), plan
        assert sum(group.shape[1] for group in plan.groups) == size
        assert all(bool((g[:, 1:] > g[:, :-1]).all()) for g in plan.groups), "ascending inside a group"


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_sources_are_committed_before_their_targets(t, h, w, seed):
    for plan in some_plans(t, h, w, seed):
        if plan.readout != "shifted":
            assert plan.sources is None
            continue
        ranks = plan.slot_rank
        for step, group in enumerate(plan.groups):
            source = plan.source(group).flatten(1)
            rank = ranks.gather(1, source.clamp(min=0).expand(len(ranks), -1))
            assert bool(((rank < step) | (source < 0)).all()), plan
        speaks = (plan.source(torch.arange(plan.layout.size)[None].expand(len(ranks), -1)) != NONE).any(-1)
        assert bool(speaks.all()), plan


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_feeding_follows_the_ranks(t, h, w, seed):
    for plan in some_plans(t, h, w, seed):
        everything = plan.fed(-1, len(plan))
        assert everything.shape[1] == plan.slots
        rank = plan.slot_rank.gather(1, everything)
        assert bool((rank[:, 1:] >= rank[:, :-1]).all())
        parts = torch.cat([plan.fed(k - 1, k) for k in range(len(plan) + 1)], 1)
        assert torch.equal(parts, everything)
        mask = plan.mask(everything, everything)
        assert bool(mask.diagonal(dim1=1, dim2=2).all()), "every slot sees itself"
        expected = rank[:, :, None] >= rank[:, None]
        if plan.copies is None:
            assert torch.equal(mask, expected)
        assert not (mask & ~expected).any(), "no slot sees a later rank"
        assert plan.ranks_fed(-1, len(plan)) == len(plan)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_progress_counts_tokens(t, h, w, seed):
    for plan in some_plans(t, h, w, seed):
        steps = [plan.progress(k) for k in range(len(plan))]
        assert steps[0].done == 0
        assert steps[-1].after == plan.layout.size == steps[-1].total
        assert all(a.after == b.done for a, b in itertools.pairwise(steps))
        assert [p.step for p in steps] == list(range(len(plan)))


def test_cells_subsamples_scales_and_whole():
    grid = Grid(1, 4, 4)
    assert cells(grid, 2).groups[1].tolist() == [[2, 3, 6, 7]]
    assert subsamples(grid, 2).groups[1].tolist() == [[1, 3, 9, 11]]
    assert [g.shape[1] for g in scales(Pyramid((Grid(1, 1, 1), Grid(1, 2, 2)))).groups] == [1, 4]
    assert len(whole(grid)) == 1
    assert len(ordered(Ordered(12), 4)) == 3


@pytest.mark.parametrize(("n", "steps"), [(64, 8), (256, 64), (256, 32), (256, 256), (10, 10)])
def test_masked_groups_follow_the_cosine(n, steps):
    rank = falling_ranks(orders(n, 1), steps)[0]
    left = n
    for k in range(steps):
        published = math.floor(n * math.cos(math.pi / 2 * (k + 1) / steps))
        still = int((rank > k).sum())
        assert still < left
        if 0 < published < left and published >= steps - 1 - k:
            assert still == published
        left = still
    assert left == 0


@pytest.mark.parametrize(("n", "steps"), [(32, 8), (64, 8), (128, 64), (256, 18), (10, 10)])
def test_confident_groups_follow_the_arc_cosine(n, steps):
    plan = confident(Ordered(n), steps)
    left = n
    for k in range(steps - 1):
        published = max(1, min(left - 1, math.floor(n * math.acos((k + 1) / steps) * 2 / math.pi)))
        assert n - plan.committed(k + 1) == max(published, steps - 1 - k)
        left = published
    assert plan.committed(steps) == n
    assert arccosine(1.0) == 0


def test_masked_schedules_the_smallest_number_of_given_tokens():
    given_tokens = torch.zeros(2, 16, dtype=torch.bool)
    given_tokens[0, :5] = True
    given_tokens[1, 4:12] = True
    plan = masked(Grid(1, 4, 4), orders(16), 4, given_tokens)
    assert (plan.rank < 0).sum(1).tolist() == [5, 5]
    assert bool((plan.rank[0, :5] < 0).all())
    assert plan.progress(0).done == 5


@pytest.mark.parametrize("shape", [(16,), (1, 16)])
def test_a_shared_masked_order_leaves_no_holes(shape):
    order, given_tokens = orders(16, 1).view(shape), torch.zeros(3, 16, dtype=torch.bool)
    for row, count in enumerate((0, 3, 8)):
        given_tokens[row, 5 : 5 + count] = True
    assert len(masked(Grid(1, 4, 4), order, 4).groups[0]) == 1
    for rows in (given_tokens, given_tokens[1:], given_tokens.flip(0)):
        plan = masked(Grid(1, 4, 4), order, 4, rows)
        there = rows.clone()
        for group in plan.groups:
            there.scatter_(1, group, True)
        assert bool(there.all())
        assert bool(rows[plan.rank < 0].all()), "what is scheduled as given is given"


def test_a_shared_order_holds_for_every_sample():
    order = orders(16, 1)
    plan = masked(Grid(1, 4, 4), order, 4)
    assert plan.select(torch.tensor([2, 0])) is plan
    layout = Pyramid((Grid(1, 2, 2), Grid(1, 4, 4)))
    listed = for_samples("pivots", layout, (0,), orders=[[3, 1, 0, 2], order[0].tolist()], steps=[2, 3])
    assert (
        listed.rank.tolist() == pivots(layout, [torch.tensor([3, 1, 0, 2]), order[0]], [2, 3]).rank.tolist()
    )


def test_a_canvas_on_which_all_is_given_has_a_plan():
    plan = masked(Grid(1, 2, 2), orders(4), 2, torch.ones(2, 4, dtype=torch.bool))
    assert [group.shape[1] for group in plan.groups] == [1]


@settings(max_examples=12, deadline=None)
@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_positions_of_a_group_differ_in_what_predicts_them(t, h, w, seed):
    groups = [n for n in range(1, t * h * w + 1) if t * h * w % n == 0]
    more = [ordered(Ordered(t * h * w), n) for n in groups] + [
        next_block(Grid(t, h, w), n, hybrid=True) for n in groups
    ]
    for plan in (*some_plans(t, h, w, seed), *more):
        if plan.readout == "shifted":
            for group in plan.groups:
                for row in plan.source(group):
                    assert len(row.unique(dim=0)) == len(row), plan


def test_pivots_count_within_their_stage():
    layout = Pyramid((Grid(1, 2, 2), Grid(1, 4, 4)))
    plan = pivots(layout, [orders(4), orders(16)], [2, 3])
    assert plan.stage == (0, 0, 1, 1, 1)
    assert [(plan.progress(k).step, plan.progress(k).steps, plan.progress(k).total) for k in (1, 2)] == [
        (1, 2, 4),
        (0, 3, 16),
    ]
    assert torch.equal(plan.rank[:, :4].max(), torch.tensor(1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parallel(Grid(1, 6, 6), 4), "4 x 4 regions"),
        (lambda: parallel(Grid(1, 4, 6), 2), "square"),
        (lambda: parallel(Grid(3, 4, 6), 2), "square"),
        (lambda: parallel(Grid(1, 4, 4), 4), "larger"),
        (lambda: zipar(Grid(1, 4, 4), 0), "at least 1 token of the one above, got distance=0"),
        (lambda: zipar(Ordered(4)), "needs a grid layout"),
        (
            lambda: Plan(
                Grid(1, 2, 1),
                torch.arange(2),
                "shifted",
                torch.tensor([[-1], [0]]),
                torch.tensor([0]),
                copies=torch.tensor([[1, 1]]),
            ),
            "copy must be fed after its token",
        ),
        (
            lambda: next_block(Grid(2, 4, 6), 5),
            "must divide the 48 positions of the layout: a row has 6, a frame 24",
        ),
        (lambda: next_block(Ordered(16), 5), "must divide the 16 positions of the layout$"),
        (lambda: next_block(Grid(1, 4, 4), 4, height=3), "4 tokens in 3 rows must be tiles"),
        (lambda: next_block(Grid(1, 4, 6), 8, height=2), "must be tiles"),
        (lambda: next_block(Ordered(12), 4, height=2), "must be tiles"),
        (lambda: cells(Grid(1, 4, 4), 3), "does not divide"),
        (lambda: subsamples(Grid(1, 4, 4), 3), "does not divide into 3 x 3 parts"),
        (lambda: ordered(Ordered(12), 5), "group=5"),
        (lambda: scales(Ordered(4)), "grid or pyramid"),
        (lambda: scales(Grid(1, 2, 4)), "square picture"),
        (lambda: scales(Grid(1, 4, 4), levels=(1, 2)), r"must rise .* to 4, .* \[1, 2, 4\]"),
        (lambda: scales(Grid(1, 4, 4), levels=(2, 2, 4)), "must rise"),
        (lambda: scales(Grid(1, 4, 4), levels=(0, 4)), "must rise"),
        (lambda: scales(Pyramid((Grid(1, 1, 1),)), levels=(2,)), "are not those"),
        (lambda: pivots(Grid(1, 2, 2), [], []), "pyramid"),
        (lambda: next_neighbor(Ordered(4)), "grid"),
        (lambda: custom(Grid(1, 2, 2), torch.tensor([0, 1, 2, 2])), "permutation"),
        (lambda: masked(Grid(1, 2, 2), torch.tensor([0, 1, 2, 2]), 2), "permutation"),
        (lambda: masked(Grid(1, 2, 2), orders(4), 2, torch.zeros(3, 4) > 0), "2 orders for 3 samples"),
        (lambda: pivots(Pyramid((Grid(1, 1, 2),)), [torch.tensor([1, 1])], [1]), "permutation"),
        (lambda: falling_ranks(orders(4), 5), "1 to 4 steps"),
        (lambda: confident(Ordered(4), 5), "1 to 4 steps, got 5"),
        (lambda: Plan(Grid(1, 1, 3), torch.tensor([0, 2, 2]), "inplace"), "every step must commit"),
        (lambda: Plan(Grid(1, 1, 2), torch.tensor([[0, 0], [0, 1]]), "inplace"), "differ between samples"),
        (lambda: Plan(Grid(1, 1, 3), torch.tensor([0, 1]), "inplace"), "ranks 2 positions"),
        (lambda: Plan(Grid(1, 1, 2), torch.tensor([0, 1]), "shifted"), "needs sources"),
        (
            lambda: Plan(Grid(1, 1, 2), torch.tensor([0, 1]), "shifted", torch.tensor([[1], [0]])),
            "committed before",
        ),
        (
            lambda: Plan(Grid(1, 1, 2), torch.tensor([0, 1]), "inplace", torch.tensor([[1], [0]])),
            "takes no sources",
        ),
        (lambda: Plan(Grid(1, 1, 2), torch.tensor([0, 1]), "inplace", causal=True), "takes no causal groups"),
        (lambda: Plan(Grid(1, 1, 2), torch.tensor([0, 1]), "inplace", stage=(0,)), "stages of 1 steps"),
        (lambda: Grid(0, 1, 1), "at least one"),
    ],
)
def test_impossible_orders_say_why(make, words):
    with pytest.raises(ArzooError, match=words):
        make()


def test_plans_are_registered_under_their_names():
    assert {"raster", "next_neighbor", "parallel", "zipar", "next_block", "masked", "cells", "subsamples", "whole",
            "scales", "confident", "ordered", "pivots", "custom"} <= set(registry.names("plan"))  # fmt: skip
    assert len(registry.create("plan", "raster", layout=Grid(1, 2, 2))) == 4
    with pytest.raises(UnknownName, match="next_neighbor"):
        registry.lookup("plan", "next_neighbour")


def test_layouts_survive_plain_data():
    for layout in (Grid(2, 3, 4), Ordered(7), Pyramid((Grid(1, 1, 1), Grid(1, 2, 2)))):
        assert layout_from_dict(layout_to_dict(layout)) == layout
        assert len(layout.coords()) == layout.size
    with pytest.raises(ArzooError, match=r"unknown layout 'gird'\. Did you mean 'grid'") as refusal:
        layout_from_dict({"gird": [1, 2, 3]})
    assert not isinstance(refusal.value, UnknownName), "a value in a file is nothing that was typed"


LAYOUTS = (Grid(1, 4, 4), Ordered(16), Pyramid((Grid(1, 2, 2), Grid(1, 4, 4))))


@pytest.mark.parametrize("name", registry.names("plan"))
def test_what_a_plan_says_of_itself_is_true(name):
    described = about(name)
    assert described.name == name
    assert described.paper == OWN or described.paper[-4:].isdigit()
    assert described.readouts
    reached = set()
    for layout in LAYOUTS:
        if not isinstance(layout, described.layouts):
            with pytest.raises(ArzooError, match="needs a"):
                for_samples(name, layout, (0,))
            continue
        for readout in described.readouts:
            plan = for_backbone(name, layout, 0, frozenset({readout}))
            assert plan.name == name
            reached.add(plan.readout)
    assert reached == set(described.readouts)


SAME_WORD = {
    "arzoo/core/layout.py": {"ordered"},  # a kind of layout
    "arzoo/cli/models.py": {"ordered"},  # a table of what fits over ordered tokens
    "arzoo/generation/matrix.py": {"ordered"},  # the same table
    "arzoo/cli/doctor.py": {"whole"},  # the state of a checkpoint
    "train/example.py": {"masked"},  # what a network sees in training
    "train/generator.py": {"masked"},  # the same
    "arzoo/cli/segment.py": {"cells"},  # of tissue
    "train/segmentation.py": {"cells", "masked"},  # the same, and a task
    "train/segmenter_settings.py": {"masked"},  # the task
    "train/recipe.py": {"raster"},  # the default of recipes
    "train/migrations.py": {"raster"},  # the default of older recipes
}
"""Files that may hold a word that is also the name of a plan."""


def test_no_file_lists_plans():
    names, listed = set(registry.names("plan")), {}
    for folder in ("arzoo", "models", "tokenizers", "samplers", "train"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            # Converters and presets say which plan a published model uses.
            if file.startswith("samplers/plans/") or path.name in ("convert.py", "presets.py"):
                continue
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            words = {
                node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            if words & names:
                listed[file] = words & names
    assert {file: words for file, words in listed.items() if words - SAME_WORD.get(file, set())} == {}
