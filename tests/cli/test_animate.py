"""`arzoo generate --animate`: how pictures looked after each step."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, pixels, tiny_models
from ordered import tiny_prefixes
from painting import clip_painter
from PIL import Image

from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.pictures import read_settings
from arzoo.data.clip_folder import list_clips
from arzoo.data.picture_files import list_pictures
from arzoo.generation.animation import Animation, shown
from arzoo.generation.generator import Generator
from arzoo.viz.clips import clip_sheet


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    checkpoint = open_checkpoint(tiny_prefixes(folder / "prefixes"))
    torch.manual_seed(0)
    for name, group in (("ordered", 1), ("at once", 8)):
        model = Generator.create(
            "raster_tiny", checkpoint.load("tokenizer"), "ordered", plan_options={"group": group}, classes=CLASSES,
            tokenizer_name="prefixes", tokenizer_hash=checkpoint.parts["tokenizer"]["weights"], width=32,
        )  # fmt: skip
        torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
        model.save(folder / name)
    return folder


def frames(path: Path) -> np.ndarray:
    """Frames (F, H, W, 3) of an animation, and how long each is shown."""
    image = Image.open(path)
    out, durations = [], []
    for i in range(image.n_frames):
        image.seek(i)
        out.append(np.asarray(image.convert("RGB")))  # which reads the duration
        durations.append(image.info["duration"])
    return np.stack(out), durations


@pytest.mark.parametrize("name", ["gen", "ordered"])
def test_frames_are_previews_and_the_last_one_is_the_picture(capsys, models, tmp_path, name):
    options = ["generate", models / name, "--num", 3, "--batch", 2, "--animate"]
    result = command(capsys, *options, "--out", tmp_path / "a", "--json")
    assert result.status == 0, result.err
    animations = [Path(path) for path in result.json["animations"]]
    assert [path.name for path in animations] == [
        f"000{i}_{name.replace('/', '-')}_seed0.steps.webp" for i, name in enumerate(CLASSES)
    ]
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert {path.name for path in animations} < record["files"].keys()
    model = Generator.load(models / name)
    seeds = [sample_seed(0, i) for i in range(3)]
    expected = [step.preview().stills.numpy() for step in model.stream(classes=[0, 1, 2], seeds=seeds)]
    for i, path in enumerate(animations):
        shown, durations = frames(path)
        different = [expected[0][i]]
        for frame in expected[1:]:  # equal frames are stored once, for a longer time
            different += [] if np.array_equal(frame[i], different[-1]) else [frame[i]]
        assert shown.shape[1:3] == (96, 96), "small pictures are enlarged"
        assert np.array_equal(shown, np.stack(different).repeat(6, 1).repeat(6, 2))
        assert sum(durations) == (len(expected) - 1) * 125 + 2000
        assert durations[-1] >= 2000
        picture = path.with_name(path.name.replace(".steps.webp", ".png"))
        assert np.array_equal(shown[-1][::6, ::6], pixels(picture))
        assert read_settings(str(path)) == read_settings(str(picture))
    assert "3 pictures in" in command(capsys, *options, "--out", tmp_path / "b").out


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_animations_are_no_pictures_and_no_clips_of_a_folder(capsys, models, tmp_path, format):
    options = ["generate", models / "gen", "--num", 2, "--animate", "--animation", format]
    assert command(capsys, *options, "--out", tmp_path / "a").status == 0
    assert len([*(tmp_path / "a").glob(f"*.steps.{format}")]) == 2
    for copied in (False, True):
        if copied:
            (tmp_path / "a" / "run.json").unlink()
        listing = list_pictures(tmp_path / "a")
        assert [path.suffix for path in listing.files] == [".png", ".png"]
        assert [remark for remark in listing.remarks if "contact sheet" not in remark] == []
    assert list_clips(tmp_path / "a").files == ()


def test_the_estimate_names_the_animations(capsys, models, tmp_path):
    options = ["generate", models / "gen", "--num", 2, "--animate", "--out", tmp_path / "a"]
    planned = command(capsys, *options, "--dry-run", "--json").json["files"]
    assert command(capsys, *options).status == 0
    assert {path.name for path in (tmp_path / "a").iterdir() if not path.name.startswith(".")} == set(planned)


def test_a_single_step_is_refused(capsys, models, tmp_path):
    options = ["generate", models / "at once", "--num", 1, "--out", tmp_path / "a"]
    failing(
        command(capsys, "generate", models / "ordered", "--tokens", 1, "--animate"), "single step", status=2
    )
    failing(command(capsys, *options, "--animate"), "--animate", "plan 'ordered'", "single step", status=2)
    assert not (tmp_path / "a").exists()


def test_long_plans_have_few_frames():
    assert shown(range(3, 8)) == {3, 4, 5, 6, 7}
    assert shown([4]) == {4}
    few = sorted(shown(range(256)))
    assert len(few) == 32
    assert (few[0], few[-1]) == (0, 255)
    assert {b - a for a, b in itertools.pairwise(few)} <= {8, 9}


def test_frames_of_a_plan_that_is_cut_short(models):
    model, written = Generator.load(models / "ordered"), {}
    animation = Animation(written.__setitem__, most=3)
    images = model.generate(classes=[0, 1], tokens=6, batch=1, watch=animation.watch).stills
    animation.finish()
    assert sorted(written) == [0, 1]
    for i, of_picture in written.items():
        assert torch.equal(of_picture[-1], images[i])
        assert len(of_picture) == 3, "after step 0, about the middle of the plan, and the last one drawn"


def test_a_clip_is_shown_as_a_row_of_its_frames(capsys, tmp_path):
    model = clip_painter(tmp_path)
    options = ["generate", model, "--num", 1, "--format", "webp", "--animate", "--out", tmp_path / "a"]
    planned = command(capsys, *options, "--dry-run", "--json").json["files"]
    document = command(capsys, *options, "--json").json
    assert {Path(file).name for file in document["files"]} == {*planned} - {"run.json"}
    (path,) = document["animations"]
    shown, _ = frames(Path(path))
    clip = Generator.load(model).generate(classes=[0], seeds=[sample_seed(0, 0)])
    assert np.array_equal(shown[-1], np.asarray(clip_sheet(clip)))
    assert (shown[0] == 128).all(2).mean() > 0.5
    assert list_clips(tmp_path / "a").files == (tmp_path / "a" / "0000_animal-plain_seed0.webp",)
