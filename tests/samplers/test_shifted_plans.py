"""Plans whose tokens are predicted from earlier ones: how many calls they take, and what their tokens see."""

import pytest
import torch
from scripted import ROOT

from arzoo.core.layout import Grid
from arzoo.core.plan import COND, NONE
from arzoo.samplers.plans.shifted import next_block, next_neighbor, parallel, raster, zipar


@pytest.mark.parametrize("n", [2, 4, 8, 16, 24])
def test_next_neighbor_takes_two_n_minus_one_steps(n):
    plan = next_neighbor(Grid(1, n, n))
    assert len(plan) == 2 * n - 1
    assert max(group.shape[1] for group in plan.groups) == n
    assert plan.axes == 2


def test_next_neighbor_of_a_clip():
    plan = next_neighbor(Grid(4, 16, 16))
    assert len(plan) == 4 + 16 + 16 - 2
    assert plan.axes == 3
    at = (2 * 16 + 5) * 16 + 7
    assert plan.sources[at].tolist() == [at - 1, at - 16, at - 256]
    assert plan.sources[0].tolist() == [COND] * 3
    assert plan.sources[1].tolist() == [0, NONE, NONE]


@pytest.mark.parametrize(("side", "regions", "steps"), [(24, 2, 147), (24, 4, 51), (16, 2, 67)])
def test_parallel_takes_the_published_number_of_steps(side, regions, steps):
    plan = parallel(Grid(1, side, side), regions)
    assert len(plan) == steps
    assert plan.extras == regions**2 - 1
    assert all(group.shape[1] == regions**2 for group in plan.groups[regions**2 :])


@pytest.mark.parametrize(("regions", "steps"), [(2, 323), (4, 95)])
def test_parallel_cuts_clips_in_space_only(regions, steps):
    """The numbers of calls of the paper, section 5, for 17 frames of 128 x 128 pixels."""
    grid, n = Grid(5, 16, 16), regions**2
    plan = parallel(grid, regions)
    assert (len(plan), plan.extras) == (steps, n - 1)
    frames, places = grid.coords()[:, 0], grid.coords()[:, 1:]
    assert all(len(frames[group[0]].unique()) == 1 for group in plan.groups), "a step stays in one frame"
    first = [int(frames[group[0, 0]]) for group in plan.groups]
    assert first == sorted(first), "frames follow one another"
    assert [group.shape[1] for group in plan.groups] == [1] * n + [n] * (steps - n)
    cell = 16 // regions
    later = torch.cat([group[0] for group in plan.groups[n + 1 :]])
    source = plan.sources[later, 0]
    assert torch.equal(places[source] // cell, places[later] // cell), "each region continues its own tokens"
    begins = plan.groups[n - 1 + 256 // n][0]
    assert frames[begins].unique().tolist() == [1]
    assert frames[plan.sources[begins, 0]].unique().tolist() == [0], "the last group predicts the next frame"
    assert (plan.sources >= grid.size).sum() == n - 1, (
        "one transition, after the first tokens of the first frame"
    )


@pytest.mark.parametrize(
    ("t", "side", "calls"), [(5, 8, [320, 19, 83, 35, 47]), (4, 16, [1024, 34, 259, 79, 79])]
)
def test_clips_take_the_documented_number_of_calls(t, side, calls):
    grid = Grid(t, side, side)
    plans = [
        raster(grid),
        next_neighbor(grid),
        parallel(grid, 2),
        parallel(grid, 4),
        next_block(grid, side, True),
    ]
    assert [len(plan) for plan in plans] == calls
    table = (ROOT / "docs" / "video.md").read_text(encoding="utf-8")
    column = 4 if t == 5 else 5
    rows = [line.split("|") for line in table.splitlines() if line.startswith(("| `raster`", "| `n", "| `p"))]
    assert [int(row[column]) for row in rows] == calls


@pytest.mark.parametrize("hybrid", [True, False])
def test_tokens_of_a_causal_block_see_those_that_are_fed_before_them(hybrid):
    causal, plain = (next_block(Grid(2, 2, 3), 3, hybrid, causal=causal) for causal in (True, False))
    for name in ("rank", "sources", "extra_rank"):
        assert torch.equal(getattr(causal, name), getattr(plain, name)), "only the mask differs"
    fed = causal.fed(-1, len(causal))
    assert torch.equal(causal.mask(fed, fed)[0], torch.ones(causal.slots, causal.slots).tril().bool())
    assert bool((plain.mask(fed, fed) > causal.mask(fed, fed)).any())


def test_the_blocks_of_one_token_are_raster_order():
    block, tokens = next_block(Grid(2, 2, 3), 1, hybrid=True), raster(Grid(2, 2, 3))
    assert torch.equal(block.rank, tokens.rank)
    assert torch.equal(block.sources, tokens.sources)


def test_parallel_of_one_frame_is_that_of_a_picture():
    clip, picture = parallel(Grid(3, 6, 6), 3), parallel(Grid(1, 6, 6), 3)
    assert torch.equal(clip.rank[:36], picture.rank)
    moved = torch.where(picture.sources >= 36, picture.sources + 72, picture.sources)
    assert torch.equal(clip.sources[:36], moved)


@pytest.mark.parametrize(("side", "distance", "steps"), [(24, 16, 392), (24, 8, 208), (8, 1, 15), (8, 9, 64)])
def test_zipar_begins_a_row_after_some_tokens_of_the_one_above(side, distance, steps):
    assert len(zipar(Grid(1, side, side), distance)) == steps


def test_zipar_shows_tokens_what_raster_order_would_as_far_as_it_is_there():
    plan = zipar(Grid(1, 3, 4), 2)
    assert plan.rank.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7]
    # The newest token of the row before the one above, or of the first row, in place of the last of the row above.
    assert plan.copies.tolist() == [[1, 3], [3, 7]]
    assert (plan.extra_rank.tolist(), plan.extras) == ([1, 3], 0)
    assert plan.sources[:, 0].tolist() == [COND, 0, 1, 2, 12, 4, 5, 6, 13, 8, 9, 10]
    seen = plan.mask(torch.arange(14)[None], torch.arange(14)[None])[0]
    assert seen[2].nonzero()[:, 0].tolist() == [0, 1, 2], (
        "drawn with token 4, which follows it in raster order"
    )
    assert seen[4].nonzero()[:, 0].tolist() == [0, 1, 2, 4, 12], "token 3 is not there yet, its copy is"
    assert seen[5].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5], "and is gone when it is"
    assert seen[12].nonzero()[:, 0].tolist() == [0, 1, 12]
    assert plan.places(torch.tensor([[2, 12, 13]])).tolist() == [[2, 3, 7]]


@pytest.mark.parametrize("distance", [4, 5, 99])
def test_zipar_of_whole_rows_is_raster_order(distance):
    for grid in (Grid(1, 3, 4), Grid(2, 1, 4), Grid(1, 1, 3)):
        plan, expected = zipar(grid, distance), raster(grid)
        assert torch.equal(plan.rank, expected.rank)
        assert torch.equal(plan.sources, expected.sources)
        assert plan.copies is None


def test_next_block_counts_blocks():
    clip = Grid(5, 4, 4)
    assert len(next_block(clip, 16)) == 5
    assert len(next_block(clip, 16, hybrid=True)) == 16 + 4
    assert next_block(clip, 16, hybrid=True).extras == 15
    assert bool((next_block(clip, 16).sources[:16] == NONE).all())


def test_blocks_may_be_tiles():
    grid = Grid(2, 4, 4)
    tiles = next_block(grid, 4, hybrid=True, height=2)
    assert [group[0].tolist() for group in tiles.groups[:6]] == [
        [0], [1], [4], [5], [2, 3, 6, 7], [8, 9, 12, 13]
    ]  # fmt: skip
    assert len(tiles) == 4 + 7
    slots = grid.size + torch.arange(3)
    # The last token that is drawn alone and the learned inputs predict the second tile, a tile the one after it.
    assert tiles.sources[[2, 3, 6, 7], 0].tolist() == [5, *slots.tolist()]
    assert tiles.sources[[16, 17, 20, 21], 0].tolist() == [10, 11, 14, 15]
    assert tiles.sources[[0, 1, 4, 5], 0].tolist() == [COND, 0, 1, 4]
    given = next_block(grid, 4, height=2)
    assert torch.equal(given.unsourced[0].nonzero()[:, 0], torch.tensor([0, 1, 4, 5]))
    rows = next_block(grid, 8), next_block(grid, 8, height=2)
    assert torch.equal(*(plan.rank for plan in rows)), "whole rows are tiles as well as consecutive tokens"
    assert torch.equal(*(plan.sources for plan in rows))
