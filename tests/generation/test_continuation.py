"""Frame prediction, interpolation and long clips, with a tiny clip tokenizer whose first frame stands alone."""

import pytest
import torch
from greys import FRAMES, SIDE, Grey, GreyConfig, clip, generator

import arzoo
from arzoo.base.errors import ArzooError, UsageError
from arzoo.core.layout import Grid
from arzoo.generation.continuation import extended, overlap_of, windows_of
from arzoo.generation.generator import Generator
from arzoo.generation.regions import (
    frames_of_tokens,
    kept_canvas,
    kept_frames,
    kept_of_clip,
    kept_tokens,
    meaning_of_last,
    region_of,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return generator(Grey(GreyConfig()))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("5", [0, 1, 2, 3, 4]),
        ("first,last", [0, 8]),
        ("last", [8]),
        ("0-1,5-6", [0, 1, 5, 6]),
        ("first,4-5,last", [0, 4, 5, 8]),
    ],
)
def test_frames_by_their_names(keep, kept):
    assert kept_frames(keep, FRAMES).nonzero()[:, 0].tolist() == kept
    assert torch.equal(kept_of_clip(keep, FRAMES, SIDE, SIDE).all(2).all(1), kept_frames(keep, FRAMES))


@pytest.mark.parametrize("keep", ["10", "0", "5-4", "first,9-9", "8-20"])
def test_frames_that_a_clip_does_not_have(keep):
    with pytest.raises(UsageError, match="frames that the clip does not have: its 9 frames are 0 to 8"):
        kept_frames(keep, FRAMES)


@pytest.mark.parametrize("keep", ["middle", "5,", "-3", "2-x", ""])
def test_frames_that_are_none(keep):
    with pytest.raises(UsageError, match="unknown frames"):
        kept_frames(keep, FRAMES)


def test_regions_of_clips():
    left = kept_of_clip("left", FRAMES, SIDE, SIDE)
    assert left.shape == (FRAMES, SIDE, SIDE)
    assert left[:, :, :4].all()
    assert not left[:, :, 4:].any()
    both = kept_of_clip("5:left", FRAMES, SIDE, SIDE)
    assert torch.equal(both, left & kept_frames("5", FRAMES)[:, None, None])
    assert torch.equal(kept_of_clip("0,0,4,8", FRAMES, SIDE, SIDE), left), "four numbers are a rectangle"
    assert torch.equal(kept_of_clip("top", 1, 4, 4)[0], kept_of_clip("0,0,4,2", 1, 4, 4)[0])
    with pytest.raises(UsageError, match="unknown region '5'"):
        kept_of_clip("5", 1, SIDE, SIDE)


def test_a_token_is_kept_if_all_its_frames_are():
    grid = Grid(3, 2, 2)

    def tokens(keep):
        return kept_tokens(kept_of_clip(keep, FRAMES, SIDE, SIDE), grid, first_alone=True).view(3, 4)

    assert tokens("1").tolist() == [[True] * 4, [False] * 4, [False] * 4]
    assert torch.equal(tokens("4"), tokens("1"))
    assert tokens("5").all(1).tolist() == [True, True, False]
    assert tokens("5-8").all(1).tolist() == [False, False, True]
    assert tokens("left").all(0).tolist() == [True, False, True, False]
    with pytest.raises(UsageError, match="nothing of the clip: tokens cover 4 x 4 pixels each of 4 frames"):
        tokens("last")
    with pytest.raises(UsageError, match="the whole clip"):
        tokens("9")


@pytest.mark.parametrize(
    ("clip_of", "frames"),
    [
        ((17, 5, True), ["0", "1-4", "5-8", "9-12", "13-16"]),
        ((16, 4, False), ["0-3", "4-7", "8-11", "12-15"]),
        ((4, 4, False), ["0", "1", "2", "3"]),
        ((1, 1, True), ["0"]),
    ],
)
def test_the_frames_of_tokens(clip_of, frames):
    times = frames_of_tokens(*clip_of)
    assert [str(each[0]) + f"-{each[-1]}" * (len(each) > 1) for each in times] == frames


@pytest.mark.parametrize(
    ("keep", "times"),
    [("first,last", [0, 2]), ("last", [2]), ("last,1-4", [1, 2]), ("0-4", [0, 1]), ("1", [0])],
)
def test_the_word_last_means_the_frames_of_the_last_token(model, keep, times):
    """Alone, the last frame would be no token, and what lies between would be drawn towards nothing."""
    assert region_of(model, keep).view(3, 4).all(1).nonzero()[:, 0].tolist() == times
    assert meaning_of_last(model, keep) == "last means frames 5-8, which are one token" * ("last" in keep)


@pytest.mark.parametrize(
    ("keep", "frames"),
    [
        ("4", "1-4, which are one token"),
        ("first,8-8", "5-8, which are one token"),
        ("2-6", "1-4, 5-8, which are one token each"),
        ("4:left", "1-4, which are one token"),
    ],
)
def test_frames_of_a_part_of_a_token_are_refused(model, keep, frames):
    with pytest.raises(UsageError, match=f"--keep {keep} names some of the frames {frames}: .*tokens: 1, 5"):
        region_of(model, keep)


def test_first_frames_are_kept(model):
    source = clip()
    canvas = kept_canvas(model, source, region_of(model, "5"))
    assert canvas.given.sum() == 8
    clips = model.generate(classes=[0, 1], given=canvas.select(torch.zeros(2, dtype=torch.long)))
    assert clips.shape == (2, FRAMES, SIDE, SIDE, 3)
    decoded = model.decode(model.encode(source))
    assert torch.equal(clips[0, :5], decoded[0, :5])
    assert torch.equal(clips[1, :5], decoded[0, :5])
    assert not torch.equal(clips[0, 5:], clips[1, 5:])


@pytest.mark.parametrize("causal", [True, False])
def test_later_frames_have_no_influence(causal):
    model = generator(Grey(GreyConfig(causal)))
    source, other = clip(), clip(seed=1)
    other[:, :5] = source[:, :5]
    region = region_of(model, "5")
    first, second = kept_canvas(model, source, region), kept_canvas(model, other, region)
    short = kept_canvas(model, source[:, :5], region)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.values, short.values)
    assert torch.equal(first.values[:, :8], model.encode(source).values[:, :8])
    shown = model.tokenizer.seen[0]
    assert shown.shape[2] == (5 if causal else FRAMES)
    assert causal or torch.equal(shown[:, :, 5:], shown[:, :, 4:5].expand(-1, -1, 4, -1, -1))


@pytest.mark.parametrize(
    ("backbone", "plan", "options", "seen"),
    [
        ("raster_tiny", "raster", {}, []),
        ("nbp_clip_tiny", "next_block", {"size": 2, "hybrid": True}, []),
        ("nar_clip_tiny", "next_neighbor", {}, [7]),  # (1, 1, 1) comes after the given (2, 0, 0)
        ("maskgit_tiny", "masked", {"steps": 4}, None),  # some, wherever its attention goes
    ],
)
def test_which_plans_draw_towards_frames_that_are_given(backbone, plan, options, seen):
    """Which tokens between the first and the last frames change with the last ones."""
    torch.manual_seed(0)
    model = Generator.create(
        backbone, Grey(GreyConfig()), plan, classes=["a"], tokenizer_name="grey", tokenizer_hash="0",
        plan_options=options, width=32, depth=2, heads=2,
    )  # fmt: skip
    for part in (model.backbone, *model.heads):
        for weight in part.parameters():
            if weight.dim() > 1:  # as large as in a trained network, so that what is seen matters
                torch.nn.init.normal_(weight, std=0.5)
    region, source = region_of(model, "first,last"), clip()
    canvases = []
    for last in (source, 255 - source):
        frames = torch.cat([source[:, :1], last[:, 1:]], 1)
        given = kept_canvas(model, frames, region).select(torch.zeros(8, dtype=torch.long))
        *_, step = model.stream(seeds=range(8), classes=[0] * 8, given=given)
        canvases.append(step.run.tokens.values)
    changed = (canvases[0] != canvases[1]).any(0)[4:8].nonzero()[:, 0] + 4
    assert len(changed) if seen is None else changed.tolist() == seen


def test_too_few_frames(model):
    with pytest.raises(UsageError, match="5 frames are to be kept, and the clip to complete has 3"):
        kept_canvas(model, clip(3), region_of(model, "5"))


def test_long_clips_continue_their_last_frames(model):
    clips = extended(model, 20, 5, classes=[0, 1], seed=3)
    assert clips.shape == (2, 20, SIDE, SIDE, 3)
    assert torch.equal(clips[:, :FRAMES], model.generate(classes=[0, 1], seed=3))
    region = torch.arange(12) < 8
    canvas = kept_canvas(model, clips[:, 4:9], region)
    again = model.generate(
        classes=[0, 1], given=canvas, seeds=[arzoo.base.runtime.sample_seed(s, 1) for s in seeds(3, 2)]
    )
    assert torch.equal(clips[:, 9:13], again[:, 5:])
    alone = extended(model, 20, 5, classes=[1], seeds=[seeds(3, 2)[1]])
    assert torch.equal(alone[0], clips[1]), "a clip depends on its own seed alone"


def seeds(seed, count):
    return [arzoo.base.runtime.sample_seed(seed, i) for i in range(count)]


def test_long_clips_count_their_steps(model):
    calls = []
    extended(model, 13, 5, classes=[0], progress=lambda done, steps: calls.append((done, steps)))
    assert calls[-1] == (24, 24)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert torch.equal(extended(model, 6, classes=[0]), model.generate(classes=[0])[:, :6])


def test_overlaps(model):
    assert overlap_of(model) == 1
    assert overlap_of(model, 5) == 5
    for overlap in (0, 4, 9):
        with pytest.raises(ArzooError, match=r"windows of 9 frames can overlap by 1, 5 frames"):
            overlap_of(model, overlap)
    assert [windows_of(n, 9, 5) for n in (1, 9, 10, 13, 14)] == [1, 1, 2, 2, 3]


def test_a_model_without_places_is_refused():
    with pytest.raises(UsageError, match="needs tokens on a grid over the picture or clip"):
        region_of(arzoo.load("ar_ordered_emoji64"), "left")
