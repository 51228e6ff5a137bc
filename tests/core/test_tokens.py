"""The canvas and the contract of tokenizers, at the level of single operations."""

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips, as_pictures, fold_frames, unfold_frames
from arzoo.core.layout import Grid, Ordered
from arzoo.core.tokens import Tokens, TokenSpec

GRID = Grid(1, 2, 3)


@pytest.mark.parametrize(
    "spec", [TokenSpec(GRID, vocab=9), TokenSpec(GRID, vocab=9, codebooks=2), TokenSpec(GRID, channels=4)]
)
def test_specs_say_what_a_token_is(spec):
    canvas = spec.empty(2)
    assert canvas.values.shape == (2, 6, *spec.token_shape)
    assert canvas.values.dtype == spec.dtype
    assert not canvas.known.any()
    assert canvas.length.tolist() == [6, 6]
    assert canvas.at(torch.tensor([[5, 0]])).shape == (2, 2, *spec.token_shape)
    assert TokenSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TokenSpec(GRID, vocab=9), "2 x 3 codes, each one of 9"),
        (TokenSpec(GRID, vocab=9, codebooks=2), "2 x 3 positions of 2 codes, each one of 9"),
        (TokenSpec(Grid(5, 2, 3), channels=4), "5 x 2 x 3 vectors of 4 numbers"),
        (TokenSpec(Ordered(7), vocab=9), "7 codes, each one of 9"),
    ],
)
def test_specs_in_words(spec, words):
    assert str(spec) == words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "either discrete"),
        ({"vocab": 3, "channels": 2}, "either discrete"),
        ({"channels": 2, "scale": 0.0}, "positive number"),
        ({"channels": 2, "scale": float("nan")}, "positive number"),
        ({"vocab": 3, "shift": 1.0}, "codes are not scaled"),
    ],
)
def test_impossible_specs(facts, words):
    with pytest.raises(ArzooError, match=words):
        TokenSpec(GRID, **facts)


def test_scale_is_part_of_the_contract():
    spec = TokenSpec(Ordered(4), channels=2, scale=0.5, shift=0.1, prefix_ok=True)
    assert TokenSpec.from_dict(spec.to_dict()) == spec
    assert spec != TokenSpec(Ordered(4), channels=2, prefix_ok=True)


def canvas(given=()):
    known = torch.zeros(2, 6, dtype=torch.bool)
    known[1, list(given)] = True
    return Tokens.of(torch.arange(12).view(2, 6), known)


def test_a_commit_writes_its_group_alone_and_marks_it_known():
    tokens = canvas()
    tokens.commit(torch.tensor([[1, 4]]), torch.tensor([[50, 51], [60, 61]]), torch.tensor([[1, 4]]))
    assert tokens.values.tolist() == [[0, 50, 2, 3, 51, 5], [6, 60, 8, 9, 61, 11]]
    assert tokens.known.tolist() == [[False, True, False, False, True, False]] * 2
    assert not tokens.given.any()


def test_given_tokens_are_never_overwritten():
    tokens = canvas(given=[4])
    tokens.commit(torch.tensor([[1, 4]]), torch.tensor([[50, 51], [60, 61]]), torch.tensor([[1, 4]]))
    assert tokens.values[1].tolist() == [6, 60, 8, 9, 10, 11]
    assert tokens.known[0].tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4, 5], [4, 1]])
def test_values_are_found_by_position_and_not_by_place(positions):
    """A joint head draws more than the group; one of the group's size may still draw in another order."""
    tokens, where = canvas(), torch.tensor([positions])
    tokens.commit(torch.tensor([[1, 4]]), 100 + where.expand(2, -1), where)
    assert tokens.values[:, [1, 4]].tolist() == [[101, 104]] * 2
    assert tokens.values[0, [0, 2, 3, 5]].tolist() == [0, 2, 3, 5]


def test_groups_may_differ_between_samples():
    tokens, group = canvas(), torch.tensor([[0, 1], [4, 5]])
    tokens.commit(group, torch.full((2, 2), 77), group.clone())
    assert tokens.known.tolist() == [[True, True] + [False] * 4, [False] * 4 + [True, True]]


def test_vectors_and_codebooks_are_committed_whole():
    tokens = Tokens.of(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool))
    tokens.commit(torch.tensor([[2]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[0, 2]]))
    assert tokens.values.tolist() == [[[0, 0], [0, 0], [3, 4]]]


def test_finished_samples_keep_the_length_they_were_cut_at():
    tokens = canvas()
    assert tokens.finish(torch.tensor([True, False]), 2) is False
    assert tokens.finish(torch.tensor([True, False]), 3) is False, "the first one is done already"
    assert tokens.length.tolist() == [2, 6]
    assert tokens.finish(torch.tensor([False, True]), 4) is True
    assert tokens.length.tolist() == [2, 4]


def test_selected_rows_are_copies():
    tokens = canvas(given=[0])
    tokens.length = torch.tensor([3, 6])
    chosen = tokens.select(torch.tensor([1, 0, 1]))
    assert chosen.length.tolist() == [6, 3, 6]
    assert chosen.given[:, 0].tolist() == [True, False, True]
    chosen.commit(torch.tensor([[2]]), torch.full((3, 1), 99), torch.tensor([[2]]))
    assert tokens.values[:, 2].tolist() == [2, 8]
    assert not tokens.known[:, 2].any()


def test_a_copy_shares_nothing():
    tokens = Tokens.of(torch.arange(6).view(1, 6), layout=GRID)
    again = tokens.copy()
    for name, value in vars(tokens).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(again, name), value)
            assert getattr(again, name).data_ptr() != value.data_ptr()
    assert again.layout == GRID


CLIPS = TokenSpec(Grid(1, 4, 4), vocab=9, downscale=(2, 8, 4))


def test_the_layout_follows_the_size_of_a_clip():
    assert CLIPS.layout_of((2, 8, 4)) == Grid(1, 1, 1)
    assert CLIPS.layout_of((6, 32, 8)) == Grid(3, 4, 2)
    assert TokenSpec.from_dict(CLIPS.to_dict()) == CLIPS
    old = {name: value for name, value in CLIPS.to_dict().items() if name != "downscale"}
    assert TokenSpec.from_dict(old).downscale == ()
    for shape in ((1, 8, 4), (2, 9, 4), (2, 8, 0), (8, 4)):
        with pytest.raises(ArzooError, match=r"multiples, T of 2, H of 8, W of 4. Resize or crop"):
            CLIPS.layout_of(shape)
    ordered = TokenSpec(Ordered(32), vocab=9, prefix_ok=True)
    assert ordered.layout_of((1, 100, 3)) == Ordered(32), "as many tokens whatever the size"


def test_padding_is_refused_by_those_who_need_all_tokens():
    spec = TokenSpec(GRID, vocab=12)
    tokens = canvas()
    assert spec.require(tokens) == GRID
    tokens.finish(torch.tensor([False, True]), 4)
    assert tokens.kept.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    with pytest.raises(ArzooError, match=r"sample 1 has 4 of 6 tokens.*needs all.*no early stop"):
        spec.require(tokens)
    assert TokenSpec(Ordered(6), vocab=12, prefix_ok=True).require(tokens) == Ordered(6)


def test_tokens_of_another_size_say_so():
    tokens = Tokens.of(torch.zeros(1, 12, dtype=torch.long))
    with pytest.raises(ArzooError, match=r"codes \(B, 6\), got \(1, 12\).*layout=spec.layout_of"):
        TokenSpec(GRID, vocab=9).require(tokens)
    tokens.layout = Grid(2, 2, 3)
    assert TokenSpec(GRID, vocab=9).require(tokens) == Grid(2, 2, 3)


def test_pictures_are_clips_of_one_frame():
    x = torch.randn(2, 3, 4, 5)
    assert as_clips(x).shape == (2, 3, 1, 4, 5)
    assert torch.equal(as_pictures(as_clips(x)), x)
    clips = torch.randn(2, 3, 6, 4, 5)
    frames = fold_frames(clips)
    assert torch.equal(frames[7], clips[1, :, 1])
    assert torch.equal(unfold_frames(frames, 2), clips)
    with pytest.raises(ArzooError, match="clips of 6"):
        as_pictures(clips)


def test_one_frame_keeps_its_memory_format():
    """So that convolutions on a CPU keep their fast order of channels."""
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    frames = fold_frames(as_clips(x))
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert as_pictures(unfold_frames(frames, 2)).is_contiguous(memory_format=torch.channels_last)


CAUSAL = TokenSpec(Grid(5, 16, 16), vocab=64, downscale=(4, 8, 8), first_alone=True)


@pytest.mark.parametrize(
    ("clip", "grid"), [((17, 128, 128), (5, 16, 16)), ((1, 64, 8), (1, 8, 1)), ((5, 8, 16), (2, 1, 2))]
)
def test_the_first_frame_of_causal_tokens_stands_alone(clip, grid):
    assert CAUSAL.layout_of(clip) == Grid(*grid)
    assert CAUSAL.clip_of(Grid(*grid)) == clip
    assert TokenSpec.from_dict(CAUSAL.to_dict()) == CAUSAL


@pytest.mark.parametrize("clip", [(16, 8, 8), (0, 8, 8), (5, 8, 12), (5, 8)])
def test_clips_without_a_whole_number_of_causal_tokens_are_refused(clip):
    with pytest.raises(ArzooError, match="T - 1 of 4, H of 8, W of 8"):
        CAUSAL.layout_of(clip)
