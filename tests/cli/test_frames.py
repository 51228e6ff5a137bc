"""`arzoo generate` with given frames and for longer clips, with a tiny model of clips."""

import numpy as np
import pytest
import torch
from command import command, failing, tiny_models
from filming import sound
from greys import FRAMES, SIDE, clip, saved
from PIL import Image

from arzoo.base.runtime import sample_seed
from arzoo.data.clip_files import read_clip
from arzoo.generation.continuation import extended
from arzoo.generation.generator import Generator
from arzoo.generation.regions import kept_canvas, region_of
from arzoo.viz.clips import write_clip

SEEDS = [sample_seed(0, i) for i in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("greys"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A clip as a file without loss, at the speed of the model, twice as large as its clips."""
    path = tmp_path_factory.mktemp("source") / "clip.webp"
    large = clip(FRAMES + 3)[0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    write_clip(path, large, 4.0, {}, "webp")
    return path


def drawn(capsys, *options):
    result = command(capsys, "generate", *options, "--format", "webp", "--num", 2, "--json")
    assert result.status == 0, result.err
    return result.json


def frames(path, count=FRAMES):
    return read_clip(path, count, SIDE, 4.0)


@pytest.mark.parametrize("keep", ["5", "first,5-8", "5:left", "top"])
def test_kept_parts_of_a_clip(capsys, model, source, tmp_path, keep):
    document = drawn(capsys, model, "--class", 0, 1, "--init", source, "--keep", keep, "--out", tmp_path)
    generator = Generator.load(model)
    region = region_of(generator, keep)
    given = kept_canvas(generator, clip(), region).select(torch.zeros(2, dtype=torch.long))
    expected = generator.generate(classes=[0, 1], seeds=SEEDS, given=given)
    shown = [name for name in document["files"] if name.endswith(".webp")]
    for path, one in zip(shown, expected.numpy(), strict=True):
        assert np.array_equal(frames(path), one)
    again = drawn(capsys, "--like", shown[1], "--out", tmp_path / "again")
    assert again["config"]["keep"] == keep


NOT_SEEN = "kept but not seen"


def test_frames_between_the_first_and_the_last(capsys, model, source, tmp_path):
    """The last frame is that of a token of four; this model, which draws in order, does not see it, and says so."""
    options = ("--class", 0, "--init", source, "--num", 1, "--format", "webp", "--json", "--out")
    result = command(capsys, "generate", model, "--keep", "first,last", *options, tmp_path / "a")
    assert result.status == 0, result.err
    assert result.err.count("last means frames 5-8, which are one token") == 1
    assert NOT_SEEN in result.err
    generator = Generator.load(model)
    true = generator.decode(generator.encode(clip()))[0].numpy()
    shown = frames(result.json["files"][0])
    assert np.array_equal(shown[0], true[0])
    assert np.array_equal(shown[5:], true[5:])
    result = command(capsys, "generate", model, "--keep", 5, *options, tmp_path / "b")
    assert result.status == 0, result.err
    assert NOT_SEEN not in result.err, "nothing that is given comes later"
    assert "last means" not in result.err


def test_frames_are_taken_at_the_speed_of_the_model(capsys, model, source, tmp_path):
    """Every other frame of a file that is twice as fast."""
    fast = tmp_path / "fast.webp"
    write_clip(
        fast, torch.from_numpy(read_clip(source, FRAMES, 2 * SIDE)).repeat_interleave(2, 0), 8.0, {}, "webp"
    )
    options = (model, "--class", 0, "--keep", 5, "--out")
    slow = drawn(capsys, *options, tmp_path / "a", "--init", source)["files"]
    same = drawn(capsys, *options, tmp_path / "b", "--init", fast)["files"]
    assert np.array_equal(frames(slow[0]), frames(same[0]))


def test_a_picture_is_the_first_frame(capsys, model, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(clip(1)[0, 0].numpy()).save(picture)
    document = drawn(
        capsys, model, "--class", 0, "--init", picture, "--keep", "first", "--out", tmp_path / "out"
    )
    generator = Generator.load(model)
    assert np.array_equal(
        frames(document["files"][0])[0], generator.decode(generator.encode(clip()))[0, 0].numpy()
    )


def test_a_folder_of_frames_is_a_clip(capsys, model, source, tmp_path):
    """As --format frames writes it: the frames of a file of the speed of the model."""
    folder = tmp_path / "frames"
    write_clip(folder, read_clip(source, FRAMES, 2 * SIDE), 4.0)
    options = (model, "--class", 0, "--keep", 5, "--out")
    shown = drawn(capsys, *options, tmp_path / "a", "--init", folder)["files"]
    same = drawn(capsys, *options, tmp_path / "b", "--init", source)["files"]
    assert np.array_equal(frames(shown[0]), frames(same[0]))
    again = drawn(capsys, "--like", shown[0], "--out", tmp_path / "again")["files"]
    assert np.array_equal(frames(shown[0]), frames(again[0]))
    last = max(folder.iterdir())
    Image.new("RGB", (SIDE, SIDE)).save(last)
    failing(command(capsys, "generate", "--like", shown[0], "--out", tmp_path / "c"), "frames has changed")
    last.rename(folder / "cover.png")
    failing(
        command(capsys, "generate", *options, tmp_path / "d", "--init", folder),
        "has 0 frames", "the names of all end with a number",
    )  # fmt: skip


def test_files_without_frames_are_refused(capsys, model, tmp_path):
    pytest.importorskip("av")
    reasons = {
        "empty.mp4": "it is empty",
        "text.mp4": "it is no video, or damaged",
        "sound.mp4": "only sound",
    }
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no clip")
    sound(tmp_path / "sound.mp4")
    for name, reason in reasons.items():
        options = ("--init", tmp_path / name, "--keep", 5, "--out", tmp_path / "out")
        failing(
            command(capsys, "generate", model, *options), f"{name} is not a clip that can be read", reason
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("overlap", [(), ("--overlap", 5)])
def test_longer_clips(capsys, model, tmp_path, overlap):
    options = (model, "--class", 0, 1, "--frames", 20, *overlap)
    document = drawn(capsys, *options, "--out", tmp_path / "out")
    expected = extended(Generator.load(model), 20, *overlap[1:], classes=[0, 1], seeds=SEEDS)
    for path, one in zip(document["files"][:2], expected.numpy(), strict=True):
        assert np.array_equal(frames(path, 20), one)
    plan = command(capsys, "generate", *options, "--num", 2, "--dry-run", "--json").json
    assert plan["passes"] == document["passes"] == 12 + (3 * 4 if overlap else 2 * 8)


def test_longer_clips_from_given_frames(capsys, model, source, tmp_path):
    options = ("--init", source, "--keep", 5, "--frames", 13)
    long = drawn(capsys, model, "--class", 0, *options, "--out", tmp_path / "a")["files"][0]
    first = drawn(capsys, model, "--class", 0, *options[:4], "--out", tmp_path / "b")["files"][0]
    assert np.array_equal(frames(long, 13)[:FRAMES], frames(first))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep", "5"], ["--init FILE goes with --keep REGION or with --mask FILE"]),
        (["--overlap", 5], ["--overlap goes with --frames"]),
        (["--frames", 0], ["--frames must be at least 1"]),
        (["--frames", 20, "--overlap", 3], ["can overlap by 1, 5 frames", "got 3"]),
        (["--init", "SOURCE", "--keep", "13"], ["its 9 frames are 0 to 8"]),
        (["--init", "SOURCE", "--keep", "9"], ["the whole clip"]),
        (["--init", "SOURCE", "--keep", "first,8-8"], ["some of the frames 5-8, which are one token"]),
        (
            ["--init", "SOURCE", "--keep", "sometimes"],
            ["region 'sometimes'", "frames of the clip: the first 5 (5)"],
        ),
        (["--init", "PICTURE", "--keep", "5"], ["5 frames are to be kept", "has 1"]),
    ],
)
def test_what_is_refused(capsys, model, source, tmp_path, options, words):
    picture = tmp_path / "picture.png"
    Image.new("RGB", (SIDE, SIDE)).save(picture)
    files = {"SOURCE": source, "PICTURE": picture}
    out = tmp_path / "out"
    result = command(capsys, "generate", model, *(files.get(each, each) for each in options), "--out", out)
    failing(result, *words, status=2)
    assert not out.exists()


def test_models_of_pictures_have_no_frames(capsys, tmp_path):
    generator = tiny_models(tmp_path) / "gen"
    failing(
        command(capsys, "generate", generator, "--frames", 4), "--frames are for models of clips", status=2
    )
    (tmp_path / "clip.mp4").touch()
    given = ("--init", tmp_path / "clip.mp4", "--keep", "top", "--out", tmp_path / "out")
    failing(command(capsys, "generate", generator, *given), "clip.mp4 is a video", "model of clips")


def test_frames_that_have_to_be_given_are_asked_for_before_anything_is_written(capsys, source, tmp_path):
    """Frame prediction without frames; a second try needs no --overwrite."""
    model, out = saved(tmp_path), tmp_path / "out"
    generator = Generator.load(model)
    generator.plan_name, generator.plan_options = "next_block", {"size": 4}
    generator.save(model)
    failing(command(capsys, "generate", model, "--out", out), "have to be given", status=2)
    assert not out.exists()
    assert len(drawn(capsys, model, "--init", source, "--keep", "first", "--out", out)["files"]) == 4
